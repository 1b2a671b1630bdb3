// Drives what the playground has for conditions, for vectors that are taken out, and for the magnitudes that bipo calibrate found.
//
//   node tests/playground/conditions.mjs

import assert from "node:assert/strict";
import { test } from "node:test";

import { ask, count, done, labels, opened, page, set, sweeps, text } from "./steps.mjs";

const COOKING = "How do I cook an egg?";

/** Chooses an option as a reader does. */
const choose = (selector, value) =>
  page.value(`{ const field = document.querySelector("${selector}");
    field.value = ${JSON.stringify(value)}; field.dispatchEvent(new Event("change", { bubbles: true })); }`);
const shown = (id) => page.value(`!document.getElementById("${id}").hidden`);

test("a condition is chosen, is told with its threshold, and says of each prompt whether it fired", () =>
  opened(async () => {
    assert.ok(await shown("condition"));
    assert.equal(await text("#when"), "every promptwhere “cooking” fires");
    assert.equal(await text("#threshold"), "");
    await ask(COOKING, 8);
    await done();
    // Without a condition the request says nothing of one.
    assert.equal(sweeps().at(-1).vector, "cheerful");
    assert.equal(await shown("verdict"), false);
    await choose("#when", "=cooking");
    assert.match(await text("#threshold"), /the mean over a prompt's tokens after layer 27 is > 0\.0513/);
    assert.match(await text("#columns article:last-child .stale"), /from \+2 under another condition: run again/);
    assert.equal(await text("#columns article:nth-child(2) .stale"), "");
    await page.click("#run");
    await done();
    assert.deepEqual(sweeps().at(-1).steering, { vectors: [{ source: "cheerful", scale: 1 }], when: "cooking" });
    assert.equal(await text("#verdict"), "The condition fired (score 0.0627, fires > 0.0513): this prompt is steered.");
    await ask("How was your day?", 8);
    await done();
    assert.match(await text("#verdict"), /^The condition did not fire \(score 0\.0455, fires > 0\.0513\): every answer is/);
    assert.match(await text("#columns article:last-child .note"), /not steered: the condition did not fire/);
    assert.equal(await count("#columns mark"), 0);
    await choose("#when", "");
    await page.click("#run");
    await done();
    assert.equal(await shown("verdict"), false);
    assert.match(await text("#columns article:last-child .note"), /dose 0\.08/);
  }));

test("a condition is part of the exports and of the link", () =>
  opened(
    async () => {
      assert.equal(await page.value("document.getElementById('when').value"), "=cooking");
      await page.click("#tab-export");
      const exports = await text("#exports");
      assert.match(exports, /"when": "cooking" \}/);
      assert.match(exports, /"scale": magnitude\}\], "when": "cooking"\}/);
      assert.match(exports, /--when cooking\.safetensors/);
      assert.match(exports, /It knows no condition: every prompt is steered/);
      assert.match(await text("#link-text"), /when=%3Dcooking/);
    },
    { hash: "#when=%3Dcooking" },
  ));

test("a link with a condition that the server does not have steers every prompt", () =>
  opened(
    async () => {
      assert.equal(await page.value("document.getElementById('when').value"), "");
      await ask(COOKING, 8);
      await done();
      assert.equal(sweeps().at(-1).steering, undefined);
    },
    { hash: "#when=%3Dnone" },
  ));

test("a condition that the server asks by itself is turned off and on again", () =>
  opened(
    async () => {
      assert.equal(await text("#when"), "every promptwhere the condition fireswhere “cooking” fires");
      assert.match(await text("#threshold"), /is > 0\.0513/);
      await ask("How was your day?", 8);
      await done();
      assert.equal(sweeps().at(-1).vector, "cheerful");
      assert.match(await text("#verdict"), /^The condition did not fire/);
      await choose("#when", "off");
      assert.equal(await text("#threshold"), "");
      await page.click("#run");
      await done();
      assert.deepEqual(sweeps().at(-1).steering, { vectors: [{ source: "cheerful", scale: 1 }], when: null });
      assert.equal(await shown("verdict"), false);
      assert.ok((await count("#columns mark")) > 0);
      await page.click("#tab-export");
      assert.match(await text("#exports"), /"when": None/);
      assert.doesNotMatch(await text("#exports"), /--when/);
      await choose("#when", "");
      assert.match(await text("#exports"), /--when condition\.safetensors/);
    },
    { mock: { asks: true } },
  ));

test("a vector that is taken out says so, and goes from 0 to 1", () =>
  opened(async () => {
    assert.match(await text("#vector"), /cheerfulrefusal \(taken out\)formal/);
    await choose("#vector", "refusal");
    assert.equal(await labels("#columns article"), "Magnitude 0,Magnitude +1");
    assert.match(await text("#facts"), /^“refusal” is taken out of all tokens at layer 14: magnitude 1 takes out all that lies along it\.$/);
    assert.equal(await text("#columns article:last-child .dose"), "takes out 100 % of what is there");
    await ask("How was your day?", 8);
    await done();
    assert.doesNotMatch(await text("#columns article:last-child .note"), /dose/);
    assert.equal(await text("#columns article:last-child .dose"), "takes out 100 % of what is there");
    await page.click("#tab-export");
    assert.match(await text("#exports"), /--operation ablate --magnitudes=0,1 /);
    assert.match(await text("#exports"), /it cannot be taken out as it is here/);
    assert.match(await text("#eval-command"), /--dataset held-out\.csv --operation ablate --magnitudes=0\.\.1:0\.25 --json > refusal\.json$/);
    await page.click("#tab-compare");
    await choose("#vector", "cheerful");
    assert.equal(await labels("#columns article"), "Magnitude −2,Magnitude 0,Magnitude +2");
    await page.until("document.getElementById('eval-command').textContent.includes('--dataset cheerful-heldout --magnitudes=-2..2:0.5 --json')");
    // What somebody chose stays.
    await set("#columns article:last-child input.magnitude", "3");
    await choose("#vector", "refusal");
    assert.equal(await labels("#columns article"), "Magnitude −2,Magnitude 0,Magnitude +3");
  }));

test("one button puts the columns at the magnitudes that bipo calibrate found", () =>
  opened(async () => {
    assert.equal(await shown("auto"), false);
    await choose("#vector", "formal");
    assert.equal(await text("#auto"), "Calibrated: −6.5, 0, +7.25");
    await page.click("#auto");
    assert.equal(await labels("#columns article"), "Magnitude −6.5,Magnitude 0,Magnitude +7.25");
    assert.equal(await shown("auto"), false);
    await ask("How was your day?", 8);
    await done();
    assert.deepEqual(sweeps().at(-1).magnitudes, [-6.5, 0, 7.25]);
    assert.equal(await count("#columns .dose.damage"), 0);
    await set("#columns article:last-child input.magnitude", "7.5");
    assert.equal(await count("#columns .dose.damage"), 1);
  }));
