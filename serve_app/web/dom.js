// Elements from data. Text is only ever set as text, so a product's title cannot become markup.

import { say } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

export const button = (words, act) => el("button", { type: "button", onclick: act }, words);

// A product of a list. `more` are its buttons; `badge` a word beside its title.
export function hit(one, place, { badge, more = [] } = {}) {
  const facts = [one.brand, one.category, one.price === null ? null : String(one.price), one.language].filter(Boolean);
  return el("li", { class: "hit", "data-product": one.product_id },
    el("div", {},
      el("span", { class: "place" }, `${place}.`),
      el("span", { class: "title", lang: one.language }, one.title),
      badge ? el("span", { class: "badge" }, badge) : null),
    el("div", { class: "facts" }, facts.join(" · ")),
    one.why ? why(one) : null,
    more.length ? el("div", { class: "acts" }, more) : null);
}

function why({ why: told, score }) {
  const rows = [
    [say("matched"), told.matched.join(", ") || say("none")],
    [say("lexical"), told.lexical.toFixed(2)],
    [say("semantic"), told.semantic === null ? say("unused") : told.semantic.toFixed(3)],
    [say("score"), score.toFixed(3)],
  ];
  if (told.learnt?.length) rows.push([say("learnt"), told.learnt.join(" · ")]);
  return el("details", {}, el("summary", {}, say("why")),
    el("dl", {}, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

export function list(heading, hits, options = () => ({})) {
  return el("div", {}, heading ? el("h2", {}, heading) : null,
    hits.length ? el("ol", {}, hits.map((one, i) => hit(one, i + 1, options(one)))) : el("p", { class: "note" }, say("nothing")));
}
