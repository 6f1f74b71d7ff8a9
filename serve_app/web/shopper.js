// One shopper: what is known of them, what they are recommended, and how a click changes it.

import { call, newest, shown } from "./api.js";
import { $, button, el, list } from "./dom.js";
import { events } from "./search.js";
import { say } from "./words.js";

const ask = newest();
const askProfile = newest();
let before = null; // what was recommended before the last click

const someone = () => `visitor-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
const user = () => $("user").value.trim() || null;

function remember() {
  const known = new Set([user(), ...JSON.parse(localStorage.getItem("shoppers") ?? "[]")].filter(Boolean));
  const kept = [...known].slice(0, 8);
  localStorage.setItem("shoppers", JSON.stringify(kept));
  $("users").replaceChildren(...kept.map((value) => el("option", { value })));
}

const wanted = () => ["/v1/recommend", { user_id: user(), k: 8 }];

// In words; of whoever has done nothing yet there is nothing to say.
async function profile() {
  if (!user()) return "";
  try {
    return (await askProfile("/v1/profile", { user_id: user() })).words;
  } catch (error) {
    if (error.status === 404) return "";
    throw error;
  }
}

function column(heading, told) {
  const made = list(heading, told.hits, (one) => ({ more: events(one) }));
  made.querySelector("h2").after(el("p", { class: "note" }, `${say("basis")}: ${say("bases")[told.basis] ?? told.basis}`));
  return made;
}

async function show() {
  remember();
  $("profile").textContent = "";
  const now = await ask(...wanted());
  $("recommended").replaceChildren(...(before ? [column(say("recommendedBefore"), before)] : []), column(say("recommendedNow"), now));
  $("profile").textContent = await profile();
  return now;
}

// A shopper viewed or bought a product, here or on the search page: recommendations know it at once.
export async function happened(one, kind) {
  if (!user()) $("user").value = someone();
  before = await call(...wanted()).catch(() => null); // not dropped for a newer question: the click would be lost
  await call("/v1/events", { events: [{ event_id: crypto.randomUUID(), user_id: user(), product_id: one.product_id, kind }] });
  $("clicked").replaceChildren(`${say("lastClick")}: ${say(kind === "view" ? "view" : "buy")} — ${one.title} (${user()})`);
  await show();
}

function choose(name) {
  $("user").value = name;
  before = null;
  $("clicked").replaceChildren();
  shown(show);
}

export function start() {
  $("newcomer").addEventListener("click", () => choose(someone()));
  $("user").addEventListener("change", () => choose(user() ?? ""));
  $("shopper").addEventListener("submit", (event) => event.preventDefault());
  remember();
}

export const opened = () => shown(show);
