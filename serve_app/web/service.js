// Brands for a need, replies to a shopper, and what a text says.

import { call, shown } from "./api.js";
import { $, el } from "./dom.js";
import { say } from "./words.js";

const nothing = () => el("p", { class: "note" }, say("nothing"));

async function brands() {
  const told = await call("/v1/brands", { query: $("brands-query").value });
  const rows = told.brands.map((one) => el("li", { class: "hit" },
    el("span", { class: "title" }, one.name), el("div", { class: "facts" }, one.about ?? "")));
  $("brands").replaceChildren(rows.length ? el("ol", {}, rows) : nothing());
}

async function replies() {
  const told = await call("/v1/reply", { turns: $("turns").value.split("\n").filter((line) => line.trim()) });
  const rows = told.replies.map((one) => el("li", { class: "hit" },
    el("div", {}, one.text), el("div", { class: "facts" }, `${one.score.toFixed(3)} · ${say("source")} ${one.source}`)));
  $("replies").replaceChildren(rows.length ? el("ol", {}, rows) : nothing());
}

async function labels() {
  const text = $("text").value;
  const asked = await Promise.allSettled(["sentiment", "intent"].map((name) => call(`/v1/${name}`, { text })));
  if (asked.every((one) => one.status === "rejected")) throw asked[0].reason;
  const rows = ["sentiment", "intent"].flatMap((name, i) => {
    if (asked[i].status === "rejected") return [el("p", { class: "note" }, `${say(name)}: ${asked[i].reason.message}`)];
    return Object.values(asked[i].value.tasks).map((task) => el("div", {},
      el("h2", {}, `${say(name)}: ${task.label}`),
      el("dl", {}, Object.entries(task.scores).sort((a, b) => b[1] - a[1]).slice(0, 6).map(([label, share]) => [
        el("dt", {}, label), el("dd", {}, el("meter", { value: share, min: 0, max: 1, "aria-label": label }), ` ${share.toFixed(2)}`)]))));
  });
  $("labels").replaceChildren(...rows);
}

export function start() {
  for (const [form, field, work] of [["brands-form", "brands-query", brands], ["reply-form", "turns", replies], ["text-form", "text", labels]]) {
    $(form).addEventListener("submit", (event) => {
      event.preventDefault();
      if ($(field).value.trim()) shown(work);
    });
  }
}
