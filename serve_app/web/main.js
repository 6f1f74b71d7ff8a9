// Tabs, language, and what is being served.

import { call, shown } from "./api.js";
import { $ } from "./dom.js";
import * as search from "./search.js";
import * as service from "./service.js";
import * as shopper from "./shopper.js";
import { paint, say, turn } from "./words.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

function open(tab) {
  for (const one of tabs) {
    one.setAttribute("aria-selected", String(one === tab));
    one.tabIndex = one === tab ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = one !== tab;
  }
  if (tab.id === "tab-shopper") shopper.opened();
}

$("tabs").addEventListener("click", (event) => event.target.matches("[role=tab]") && open(event.target));
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  next.focus();
  open(next);
});

async function served() {
  const told = await call("/v1/bundle");
  $("served").textContent = `${told.name} · ${told.products} ${say("products")} · ${told.system} · ${told.version}`;
}

$("tongue").addEventListener("click", () => {
  turn();
  search.repaint();
  shown(served);
});
$("key").addEventListener("change", () => shown(served));

paint();
search.start();
shopper.start();
service.start();
open(tabs[0]);
shown(served);
