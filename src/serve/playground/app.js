// Where the page starts: the views and their tabs, the server's state, and the address.

import * as compare from "./compare.js";
import * as dose from "./dose.js";
import * as exports from "./export.js";
import * as monitor from "./monitor.js";
import * as vectors from "./vectors.js";
import { health } from "./api.js";
import { $, rove } from "./dom.js";
import { emit, load, on, save, state } from "./state.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const CHECK_MS = 10_000;
const RETRY_MS = 2_000;
let timer = 0;
let gone = false;

function show(view) {
  state.view = view;
  for (const tab of tabs) {
    const isShown = tab.dataset.view === view;
    tab.setAttribute("aria-selected", isShown);
    tab.tabIndex = isShown ? 0 : -1;
    $(tab.dataset.view).hidden = !isShown;
  }
  save();
  emit("view");
}

/** Asks how the server is; asks sooner while it is gone. */
async function check() {
  clearTimeout(timer);
  try {
    const { model, version, streams } = await health();
    state.model = model;
    $("model").textContent = model;
    const waiting = streams.waiting ? `, ${streams.waiting} waiting` : "";
    $("load").textContent = streams.running ? `${streams.running} of ${streams.slots} slots busy${waiting}` : "ready";
    $("version").textContent = `bipo ${version}`;
    document.title = `${model} · bipo playground`;
    if (gone) {
      await vectors.refresh();
      emit("back");
    }
    gone = false;
    $("gone").hidden = true;
  } catch (error) {
    if (error.status) $("load").textContent = error.message;
  }
  timer = setTimeout(check, gone ? RETRY_MS : CHECK_MS);
}

addEventListener("server-gone", () => {
  if (gone) return;
  gone = true;
  $("gone").hidden = false;
  $("load").textContent = "does not answer";
  clearTimeout(timer);
  timer = setTimeout(check, RETRY_MS);
});

for (const tab of tabs) {
  tab.addEventListener("click", () => show(tab.dataset.view));
  tab.addEventListener("keydown", (event) => {
    if (rove($("tabs"), tabs, event.key, (next) => show(next.dataset.view))) event.preventDefault();
  });
}
addEventListener("hashchange", () => {
  load();
  compare.readState();
  monitor.readState();
  vectors.refresh();
  show(state.view);
});
// The server frees its slots in a moment.
on("answered", () => gone || setTimeout(check, 250));
on("point", () => {
  show("compare");
  compare.compareAt(state.point);
});

load();
for (const part of [vectors, compare, dose, monitor, exports]) part.start();
show(state.view);
await check();
await vectors.refresh();
document.documentElement.dataset.ready = "true";
