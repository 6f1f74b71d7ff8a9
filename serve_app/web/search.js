// The search box: results while one types, filters, why a hit is there, what is similar, before and after synthesis.

import { newest, shown } from "./api.js";
import { $, button, el, list } from "./dom.js";
import { happened } from "./shopper.js";
import { say } from "./words.js";

const EXAMPLES = ["keep soup hot on a long hike", "pan for eggs", "猫咪喝水的机器", "下雨天给狗穿的"];
const SHOWN = 10;
const ask = newest();
const askBefore = newest();
const askSimilar = newest();

function filters() {
  const of = (id) => ($(id).value ? [$(id).value] : []);
  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  return { category: of("category"), brand: of("brand"), language: of("language"), price: { least: number("least"), most: number("most") } };
}

async function search() {
  const query = $("query").value.trim();
  if (!query) {
    ask.stop();
    askBefore.stop();
    $("results").replaceChildren();
    $("told").textContent = "";
    return;
  }
  const body = { query, k: SHOWN, filters: filters(), explain: true };
  const began = performance.now();
  const [after, before] = await Promise.all([
    ask("/v1/search", body),
    $("compare").checked ? askBefore("/v1/search", { ...body, weight: 0 }) : null,
  ]);
  $("told").textContent = `${after.hits.length} ${say("found")} · ${Math.round(performance.now() - began)} ms`;
  offer(after.hits);
  const acts = (one) => ({ more: [button(say("similar"), () => shown(() => similar(one))), ...events(one)] });
  const known = new Set(before?.hits.map((one) => one.product_id));
  const right = list(before ? say("after") : null, after.hits,
    (one) => ({ ...acts(one), badge: before && !known.has(one.product_id) ? say("fresh") : null }));
  $("results").replaceChildren(...(before ? [list(say("before"), before.hits, acts)] : []), right);
}

export const events = (one) => [
  button(say("view"), () => shown(() => happened(one, "view"))),
  button(say("buy"), () => shown(() => happened(one, "purchase"))),
];

async function similar(one) {
  const found = await askSimilar("/v1/similar", { product_id: one.product_id, k: 6 });
  $("similar").replaceChildren(list(`${say("similarTo")} ${one.title}`, found.hits, (hit) => ({ more: events(hit) })));
  $("similar").scrollIntoView({ block: "nearest" });
}

// Filters offer what has been found so far; a choice stays.
const offered = { category: new Set(), brand: new Set(), language: new Set() };

function offer(hits) {
  for (const [id, values] of Object.entries(offered)) {
    for (const one of hits) if (one[id]) values.add(one[id]);
    const chosen = $(id).value;
    $(id).replaceChildren(el("option", { value: "" }, say("any")),
      ...[...values].sort().map((value) => el("option", { value, selected: value === chosen }, value)));
  }
}

export function start() {
  let waiting;
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => shown(search), 150);
  };
  $("search").addEventListener("input", soon);
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    soon();
  });
  $("examples").replaceChildren(...EXAMPLES.map((words) => button(words, () => {
    $("query").value = words;
    soon();
  })));
  repaint();
}

export function repaint() {
  offer([]);
  if ($("query").value) shown(search);
}
