// What the tests of the playground do in it: opens it with a server of its own, or one that is given, asks, sets, scores and drops.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { start } from "../fixtures/playground/mock.mjs";
import { Browser } from "./browser.mjs";

export const { values: options } = parseArgs({ options: { url: { type: "string" }, screenshots: { type: "string" } } });
export const CURVE = fileURLToPath(new URL("../fixtures/playground/curve.json", import.meta.url));
/** Tests that need the server with canned texts: of refusals, or of a request that it was sent. */
export const mocked = { skip: options.url ? "needs the server with canned texts" : false };

export let server;
export let browser;
export let page;

before(async () => {
  browser = await Browser.open();
});
after(() => browser?.close());

export const address = () => options.url ?? server.url;

/** Opens the page anew, with a server of its own, runs `steps`, and fails on any message of the browser but the `expected` ones. */
export async function opened(steps, { hash = "", expected = [], mock } = {}) {
  server = options.url ? null : await start(0, mock);
  try {
    page = await browser.page();
    await page.size(1280, 860);
    await page.open(`${address()}/${hash}`);
    await steps();
    assert.deepEqual(
      page.problems.filter((problem) => !expected.some((known) => known.test(problem))),
      [],
    );
    const origin = new URL(address()).origin;
    assert.deepEqual(
      page.requests.filter((url) => !url.startsWith(origin) && !/^(data|about|blob):/.test(url)),
      [],
    );
  } finally {
    await page.close();
    await server?.stop();
  }
}

export const text = (selector) => page.value(`document.querySelector(${JSON.stringify(selector)}).textContent`);
export const count = (selector) => page.value(`document.querySelectorAll(${JSON.stringify(selector)}).length`);
export const done = () => page.until("document.getElementById('compare-status').textContent.startsWith('Done')", 300);

/** Sets a field as a reader does who leaves it then. */
export const set = (selector, value) =>
  page.value(`{ const field = document.querySelector(${JSON.stringify(selector)});
    field.value = ${JSON.stringify(value)}; field.dispatchEvent(new Event("change")); }`);
export const focused = () => page.value("document.activeElement.id");
export const labels = (selector) =>
  page.value(`[...document.querySelectorAll(${JSON.stringify(selector)})].map((one) => one.getAttribute("aria-label")).join()`);
/** Bodies of the sweeps that the server was asked for. */
export const sweeps = () => server.log.filter(({ path }) => path === "/v1/sweep").map(({ body }) => body);

export async function ask(question, tokens = 24) {
  await set("#max_tokens", tokens);
  await page.click("#question");
  await page.type(question);
  await page.key("Enter");
}

/** Gives a file input a file. */
export async function give(selector, path) {
  const { root } = await page.send("DOM.getDocument");
  const { nodeId } = await page.send("DOM.querySelector", { nodeId: root.nodeId, selector });
  await page.send("DOM.setFileInputFiles", { nodeId, files: [path] });
}

/** Drops a file of `bipo eval --json` with these rows. */
export async function drop(name, rows) {
  await page.click("#tab-dose");
  await page.value(`{ const data = new DataTransfer();
    data.items.add(new File([${JSON.stringify(JSON.stringify({ rows }))}], "${name}"));
    document.getElementById("dose").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true })); }`);
  await page.until(`document.getElementById("curve-of").textContent.startsWith("From ${name}")`);
}

export async function score() {
  await page.click("#tab-monitor");
  await page.click("#score-run");
  await page.until("!document.getElementById('scored').hidden", 60);
}

/** Adds a vector file by the dialog. */
export async function addLayers() {
  await page.click("#manage");
  await give("#vector-file", fileURLToPath(new URL("../fixtures/vectors/layers.safetensors", import.meta.url)));
  assert.equal(await page.value("document.getElementById('vector-name').value"), "layers");
  await page.click("#add-run", 2);
  await page.until("!document.getElementById('vectors').open");
}

/** Removes the vector of a line of the dialog, which is open. */
export async function remove(line) {
  const before = await count("#vector-list li");
  for (let i = 0; i < 2; i++) await page.click(`#vector-list li:${line} button`);
  await page.until(`document.querySelectorAll('#vector-list li').length === ${before - 1}`);
}

export async function showCurve() {
  await page.click("#tab-dose");
  if (await page.value("document.getElementById('curve').hidden")) {
    await give("#curve-file", CURVE);
    await page.until("!document.getElementById('curve').hidden");
  }
}

/** Starts the server of a test anew, at the port that it had. */
export async function restart(port) {
  server = await start(port);
}
