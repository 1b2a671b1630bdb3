// Drives the playground against a `bipo serve` of a real model: what the page shows must be what the server answers to the same request,
// and what the page exports must give it again. scripts/test-playground.sh starts the server.
//
//   node tests/playground/real.mjs --url http://127.0.0.1:8080 [--screenshots DIR]
//
// The server needs the vectors cheerful (calibrated, with a curve) and taken-out, and the condition cooking. BIPO is the program, and the
// files of vectors and condition are in the working folder. PYTHON is one that has the package openai.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { until } from "./browser.mjs";
import { shrink } from "./palette.mjs";
import { address, ask, count, done, labels, opened, options, page, set, text } from "./steps.mjs";

const run = promisify(execFile);
const LIST = "Give me a plan for a rainy Sunday, one step on each line.";
const ODD = "Say it again: 😀 naïve “so” <b>x</b> &amp; 日本語\nand a second line";
const SIZES = [360, 768, 1280];
const HEIGHTS = { 360: 740, 768: 1024, 1280: 860 };

const choose = (selector, value) =>
  page.value(`{ const field = document.querySelector("${selector}");
    field.value = ${JSON.stringify(value)}; field.dispatchEvent(new Event("change", { bubbles: true })); }`);
/** What the columns show. */
const texts = () => page.value("[...document.querySelectorAll('#columns .text')].map((one) => one.textContent)");

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`${address()}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

/** The texts that the server gives to a question at some magnitudes, and what they are given with. */
async function sweep(question, magnitudes, more = {}) {
  const fields = { messages: [{ role: "user", content: question }], vector: "cheerful", temperature: 0, max_tokens: 48, seed: 0 };
  return (await post("/v1/sweep", { ...fields, magnitudes, ...more })).results;
}
const sweepTexts = async (...of) => (await sweep(...of)).map(({ text }) => text);

test("long answers with many lines are shown to the letter, and a slider that moved gives the text of its magnitude", () =>
  opened(async () => {
    await ask(LIST, 160);
    await done();
    assert.deepEqual(await texts(), await sweepTexts(LIST, [-2, 0, 2], { max_tokens: 160 }));
    assert.ok((await texts()).some((one) => one.includes("\n")), "the answers have lines");
    await page.value("document.querySelector('#columns article:last-child input[type=range]').focus()");
    for (let i = 0; i < 5; i++) await page.key("ArrowLeft");
    const magnitude = Number(await page.value("document.activeElement.value"));
    assert.ok(magnitude > 0 && magnitude < 2, String(magnitude));
    await page.click("#run");
    await done();
    assert.equal((await texts()).at(-1), (await sweepTexts(LIST, [magnitude], { max_tokens: 160 }))[0]);
    assert.match(await text("#columns article:last-child .note"), /tokens · .*dose 0\.\d/);
  }));

test("odd characters go there and back, and none becomes a part of the page", () =>
  opened(async () => {
    await set("#max_tokens", 48);
    await page.click("#question");
    await page.type(ODD);
    await page.key("Enter");
    await done();
    assert.equal(await text("#asked"), ODD);
    assert.deepEqual(await texts(), await sweepTexts(ODD, [-2, 0, 2]));
    assert.equal(await count("#turn :is(b, i, img, script):not(.hatch)"), 0);
  }));

test("a stream is stopped, its text stays, the server is free at once, and the theme changes meanwhile", () =>
  opened(async () => {
    await ask("Tell me a very long story about the sea.", 1000);
    await page.until("document.querySelector('#columns .text').textContent.length > 60", 60);
    const back = () => page.value("getComputedStyle(document.body).backgroundColor");
    const before = await back();
    await page.click("#theme");
    assert.notEqual(await back(), before);
    await page.until("document.querySelector('#columns .text').textContent.length > 120", 60);
    await page.click("#run");
    await page.until("document.getElementById('run').textContent === 'Run again'");
    const stopped = await texts();
    await until(async () => (await (await fetch(`${address()}/health`)).json()).streams.running === 0, "no text is under way", 5);
    assert.deepEqual(await texts(), stopped);
    assert.match(await text("#columns .note"), /stopped/);
    await page.value("localStorage.clear()");
  }));

test("a conversation goes on from the answer that was picked", () =>
  opened(async () => {
    await ask("How was your day?", 24);
    await done();
    const answer = (await texts()).at(-1);
    await page.click("#columns article:last-child .pick");
    await ask("And tomorrow?", 24);
    await done();
    const turns = [["user", "How was your day?"], ["assistant", answer], ["user", "And tomorrow?"]];
    const messages = turns.map(([role, content]) => ({ role, content }));
    assert.deepEqual(await texts(), await sweepTexts("", [-2, 0, 2], { messages, max_tokens: 24 }));
  }));

test("a click at a point of the measured curve shows the texts there", () =>
  opened(async () => {
    await set("#max_tokens", 32);
    await page.click("#tab-dose");
    await page.until("document.querySelectorAll('.strip').length > 4");
    assert.match(await text("#curve-of"), /^From the server, \d+ held-out pairs of cheerful-heldout/);
    const label = await page.value("[...document.querySelectorAll('.strip')].at(-2).getAttribute('aria-label')");
    const magnitude = Number(/^At \+([\d.]+):/.exec(label)[1]);
    await page.click(".strip:nth-last-of-type(2)");
    await done();
    assert.equal(await labels("#columns article"), `Magnitude 0,Magnitude +${magnitude}`);
    assert.deepEqual(await texts(), await sweepTexts("How was your day?", [0, magnitude], { max_tokens: 32 }));
  }));

test("the tokens of a text are those of the server, whatever is in it", () =>
  opened(async () => {
    const read = "Grüße! 😀 What a wonderful\nmorning… 日本 <i>&lt;";
    await page.click("#tab-monitor");
    await set("#score-text", read);
    await page.value("document.getElementById('score-text').dispatchEvent(new Event('input'))");
    await page.click("#score-run");
    await page.until("!document.getElementById('scored').hidden", 60);
    const { tokens } = await post("/v1/score", { text: read, vector: "cheerful" });
    assert.equal(await count(".token"), tokens.length);
    const ids = "[...document.querySelectorAll('#score-rows tr')].map((row) => Number(row.children[2].textContent))";
    assert.deepEqual(await page.value(ids), tokens.map(({ id }) => id));
    // What the tokens show together is the text; the bytes of one character can be several tokens.
    assert.ok((await text("#tokens")).includes("What a wonderful"), await text("#tokens"));
    assert.equal(await count("#tokens i"), 0);
    await page.click("#by-change");
    await page.until("document.querySelectorAll('.token.positive').length > 0");
  }));

test("a condition fires on the questions that it is for, and leaves the others alone", () =>
  opened(async () => {
    await choose("#when", "=cooking");
    await ask("How do I make scrambled eggs?", 24);
    await done();
    assert.match(await text("#verdict"), /^The condition fired \(score 0\.\d{4}, fires [<>] 0\.\d{4}\): this prompt is steered\.$/);
    const [low, zero, high] = await texts();
    assert.ok(low !== zero && high !== zero, "the texts differ");
    // The condition looks at the whole conversation.
    await page.click("#clear");
    await ask("How do I change a light bulb?", 24);
    await done();
    assert.match(await text("#verdict"), /^The condition did not fire/);
    assert.equal(new Set(await texts()).size, 1);
    assert.equal(await count("#columns mark"), 0);
  }));

test("the calibrated magnitudes are those of auto, and a vector that is taken out goes from 0 to 1", () =>
  opened(async () => {
    await page.click("#auto");
    await ask("How was your day?", 16);
    await done();
    const found = await sweep("How was your day?", "auto", { max_tokens: 16 });
    assert.deepEqual(await texts(), found.map(({ text }) => text));
    assert.equal(await count("#columns .dose.damage"), 0);
    await page.click("#clear");
    await choose("#vector", "taken-out");
    await ask("How was your day?", 16);
    await done();
    assert.deepEqual(await texts(), await sweepTexts("How was your day?", found.map(({ magnitude }) => magnitude), { vector: "taken-out", max_tokens: 16 }));
    assert.match(await text("#columns article:last-child .dose"), /^takes out \d+ % of what is there$/);
  }));

/** The program that the view Export shows under a title. */
const code = (title) =>
  page.value(`[...document.querySelectorAll('#exports article')].find((one) => one.querySelector('h3').textContent === '${title}').querySelector('pre').textContent`);
/** What `bipo steer`, as it is exported, writes at each magnitude. */
async function steered() {
  const steer = (await code("bipo steer")).replace(/^bipo steer/, '"$BIPO" steer --json --quiet');
  return JSON.parse((await run("bash", ["-c", steer])).stdout).results.map(({ text }) => text);
}
/** What the exported Python prints. */
const printed = async () => (await run(process.env.PYTHON, ["-c", await code("Python, openai")])).stdout;
const lines = (magnitudes, texts) => texts.map((text, at) => `${magnitudes[at]} ${text}\n`).join("");

test("the exports of a conversation have its earlier turns", () => {
  const history = [{ asked: "What's \"so\" good\nabout tea?", answer: "It's warm; it's £1 'n' $2.", magnitude: 2 }];
  const question = "And what else?";
  const fields = { view: "export", m: "-2,0,2", max_tokens: 16, system: "Be kind.", question, history: JSON.stringify(history) };
  return opened(
    async () => {
      await page.until("document.getElementById('load').textContent === 'ready'");
      const [{ asked, answer }] = history;
      const said = [["system", "Be kind."], ["user", asked], ["assistant", answer], ["user", question]];
      const messages = said.map(([role, content]) => ({ role, content }));
      const expected = await sweepTexts(question, [-2, 0, 2], { messages, max_tokens: 16 });
      assert.notDeepEqual(expected, await sweepTexts(question, [-2, 0, 2], { max_tokens: 16 }));
      assert.deepEqual(await steered(), expected);
      assert.equal(await printed(), lines([-2, 0, 2], expected));
    },
    { hash: `#${new URLSearchParams(fields)}` },
  );
});

test("what is exported gives the same texts again, and the link opens the same view", () =>
  opened(
    async () => {
      const question = "It's late: “what” now?";
      await ask(question, 16);
      await done();
      const shown = await texts();
      await page.click("#tab-export");
      const { stdout } = await run("bash", ["-c", await code("curl")]);
      const events = stdout.split("\n").filter((line) => line.startsWith("data: {")).map((line) => JSON.parse(line.slice(6)));
      const streamed = [0, 1, 2].map((at) => events.filter(({ index }) => index === at).map(({ delta }) => delta ?? "").join(""));
      assert.deepEqual(streamed, shown);
      assert.deepEqual(await steered(), shown);
      assert.equal(await printed(), lines([-2, 0, 2], shown));
      await page.open(await text("#link-text"));
      assert.equal(await page.value("document.querySelector('[role=tab][aria-selected=true]').id"), "tab-export");
      await page.click("#tab-compare");
      assert.equal(await page.value("document.getElementById('when').value"), "=cooking");
      await page.key("Enter");
      await page.click("#run");
      await done();
      assert.deepEqual(await texts(), shown);
    },
    { hash: "#when=%3Dcooking" },
  ));

test("each view is within its window at every size, in light and dark", { skip: !options.screenshots, timeout: 900_000 }, async () => {
  await mkdir(options.screenshots, { recursive: true });
  const to = (name) => join(options.screenshots, `${name}.png`);
  await opened(async () => {
    const look = async (view) => {
      for (const width of SIZES)
        for (const scheme of ["light", "dark"]) {
          await page.size(width, HEIGHTS[width]);
          await page.prefer(scheme);
          await page.value("document.activeElement.blur()");
          await page.value("scrollTo(0, 0)");
          // The page draws its curves anew when its width has changed.
          await page.value("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
          const wide = await page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
          assert.equal(wide, 0, `${view} at ${width}`);
          await page.size(width, Math.min(2400, await page.value("document.documentElement.scrollHeight")));
          await page.screenshot(to(`${view}-${width}-${scheme}`));
        }
      await page.size(1280, 860);
      await page.prefer("light");
    };
    await ask("Give me a plan for a rainy Sunday.", 72);
    await done();
    await page.until("document.getElementById('load').textContent === 'ready'");
    await look("compare");
    // The picture of the documentation.
    await page.size(960, 860);
    await page.size(960, await page.value("Math.round(document.querySelector('footer.page').getBoundingClientRect().top + scrollY)"));
    await page.screenshot(to("playground"));
    await shrink(to("playground"), to("playground"));
    await page.size(1280, 860);
    await page.click("#tab-dose");
    await page.until("document.querySelectorAll('.strip').length > 4");
    await page.value("[...document.querySelectorAll('.strip')].at(-3).focus()");
    await look("dose");
    await page.click("#tab-monitor");
    await page.click("#score-run");
    await page.until("!document.getElementById('scored').hidden", 60);
    await look("monitor");
    await page.click("#tab-export");
    await look("export");
    await page.click("#tab-compare");
    await page.click("#clear");
    await choose("#when", "=cooking");
    await ask("How do I make scrambled eggs?", 32);
    await done();
    await page.until("document.getElementById('load').textContent === 'ready'");
    await look("condition");
  });
});
