// Drives each view of the playground in Chromium: types, slides, streams, stops, goes by keyboard, reopens from a link.
//
//   node tests/playground/views.mjs [--url http://127.0.0.1:8080] [--screenshots DIR]
//
// Without --url a server with canned texts answers (tests/fixtures/playground/mock.mjs), which can also refuse, break off and go
// away, and whose views --screenshots writes a picture of each at four sizes. A server given by --url needs one vector at least; real.mjs
// does more with it.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { until } from "./browser.mjs";
import {
  addLayers,
  address,
  ask,
  count,
  CURVE,
  done,
  drop,
  focused,
  give,
  labels,
  mocked,
  opened,
  options,
  page,
  remove,
  restart,
  score,
  server,
  set,
  showCurve,
  sweeps,
  text,
} from "./steps.mjs";

const SIZES = [
  ["1280-light", 1280, 860, "light"],
  ["1280-dark", 1280, 860, "dark"],
  ["768", 768, 1024, "light"],
  ["360", 360, 740, "dark"],
];
const VIEWS = ["compare", "dose", "monitor", "export"];

test("a question is answered at each magnitude, and words that differ from 0 are marked", () =>
  opened(async () => {
    await ask("How was your day?");
    await page.until("document.querySelector('#columns .caret')");
    await done();
    assert.equal(await count("#columns article"), 3);
    assert.equal(await text("#columns article:nth-child(2) strong.magnitude"), "0");
    for (let i = 1; i <= 3; i++) assert.notEqual(await text(`#columns article:nth-child(${i}) .text`), "");
    assert.equal(await count("#columns article:nth-child(2) mark"), 0);
    assert.ok((await count("#columns mark")) > 0);
    assert.match(await text("#columns article:last-child .note"), /tokens · .*dose \d.*% of words differ from 0/);
    // What the canned text at −2 is.
    if (server) assert.match(await text("#columns article:first-child .note"), /^⚠ repeats itself: \d\d %/);
  }));

test("words that differ are found by their longest common subsequence, and repetition by runs of four words", () =>
  opened(async () => {
    const differing = (base, text) =>
      page.value(
        `import("/playground/words.js").then(({ differing, words }) => differing(words("${base}"), words("${text}")))`,
      );
    const [no, yes] = [false, true];
    assert.deepEqual(await differing("a b c d", "a b c d"), [no, no, no, no]);
    assert.deepEqual(await differing("the cat sat", "the big cat sat down"), [no, yes, no, no, yes]);
    // "on" alone is common to both, between two words that differ.
    assert.deepEqual(await differing("the cat sat on the mat", "the cat lay on a mat"), [no, no, yes, yes, yes, no]);
    assert.deepEqual(await differing("", "a b"), [yes, yes]);
    const repetition = (text) =>
      page.value(`import("/playground/words.js").then(({ repetition }) => repetition("${text}"))`);
    // Five runs of four words, of which the last is the first.
    assert.ok(Math.abs((await repetition("a b c d a b c d")) - 1 / 5) < 1e-12);
    assert.equal(await repetition("a b c"), 0);
  }));

test("a slider goes by arrow keys, its column takes its place, and its old text is told apart", () =>
  opened(async () => {
    await ask("How was your day?", 8);
    await done();
    await page.value("document.querySelector('#columns article:last-child input[type=range]').focus()");
    const before = await page.value("document.activeElement.value");
    await page.key("ArrowRight");
    const moved = await page.value("document.activeElement.value");
    assert.ok(Number(moved) > Number(before), `${before} ${moved}`);
    assert.match(await page.value("document.activeElement.getAttribute('aria-valuetext')"), /^\+2\.\d+, dose 0\.\d+/);
    assert.match(await text("#columns article:last-child .stale"), /from \+2: run again/);
    // A number that is typed, with a real minus sign: the column moves to the other side of 0.
    await set("#columns article:last-child input.magnitude", "−3.5");
    assert.equal(await labels("#columns article"), "Magnitude −3.5,Magnitude −2,Magnitude 0");
    await page.click("#add");
    assert.equal(await count("#columns article"), 4);
    await page.click("#run");
    await done();
    assert.equal(await count("#columns .stale:not([hidden])"), 0);
  }));

test("a slider goes across 0 by arrow keys, and keeps the focus", () =>
  opened(
    async () => {
      await page.value("document.querySelector('#columns article:last-child input[type=range]').focus()");
      await page.key("ArrowLeft");
      assert.equal(await labels("#columns article"), "Magnitude −0.1,Magnitude 0");
      await page.key("ArrowLeft");
      await page.key("ArrowRight");
      await page.key("ArrowRight");
      assert.equal(await labels("#columns article"), "Magnitude 0,Magnitude +0.1");
    },
    { hash: "#m=0,0.1" },
  ));

test("a slider says where the curve finds damage, also where it is on one side", mocked, () =>
  opened(async () => {
    const title = () => page.value("document.querySelector('#columns .dose').title");
    await page.until("document.querySelector('#columns .dose').title");
    // The curve's perplexity is 25 % higher than at 0 between −4 and −3, and between 2 and 3.
    assert.match(await title(), /^Damage begins at −3\.457 and \+2\.4458: where the perplexity/);
    const row = (magnitude, value) => ({ subject: "v", magnitude, measures: { perplexity: { value } } });
    await drop("one-sided.json", [row(-1, 10), row(0, 10), row(1, 15)]);
    assert.match(await title(), /^Damage begins at \+0\.5: where/);
  }));

test("a calibrated vector's damage begins where its file says", mocked, () =>
  opened(async () => {
    const title = () => page.value("document.querySelector('#columns .dose').title");
    await page.until("document.querySelector('#columns .dose').title");
    await page.value("(document.getElementById('vector').value = 'formal', document.getElementById('vector').dispatchEvent(new Event('change', { bubbles: true })))");
    await page.until("/kl=1/.test(document.querySelector('#columns .dose').title)");
    assert.match(await title(), /^Damage begins at −6\.5 and \+7\.25: the largest magnitudes within kl=1/);
    await page.click("#tab-export");
    assert.match(await text("#exports"), /at every token; here it is at prompt of user messages alone/);
  }));

test("a double click on Run again runs once, and erases nothing", mocked, () =>
  opened(async () => {
    await ask("How was your day?", 8);
    await done();
    await page.click("#run", 2);
    await done();
    assert.equal(await text("#asked"), "How was your day?");
    assert.equal(sweeps().length, 2);
    assert.match(await text("#columns .note"), /8 tokens · cut at the limit/);
    // The page may have moved under the second click.
    await page.value("document.getElementById('clear').dispatchEvent(new MouseEvent('click', { detail: 2 }))");
    assert.equal(await text("#asked"), "How was your day?");
    await page.click("#clear");
    assert.equal(await text("#asked"), "");
  }));

test("one button runs and stops, and keeps the focus", () =>
  opened(async () => {
    await ask("A slow answer, please.", 512);
    await page.until("document.querySelector('#columns .text').textContent.length > 10", 60);
    assert.equal(await text("#run"), "Stop");
    assert.equal(await page.value("document.getElementById('clear').disabled"), true);
    await page.value("document.getElementById('run').focus()");
    await page.key(" ");
    await page.until("document.getElementById('run').textContent === 'Run again'");
    await page.key(" ");
    await page.until("document.getElementById('run').textContent === 'Stop'");
    assert.equal(await focused(), "run");
    await page.key("Escape");
    await done();
    assert.equal(await focused(), "run");
  }));

test("Enter in a field of the settings starts no second stream", mocked, () =>
  opened(async () => {
    await ask("A slow answer, please.", 72);
    await page.until("document.querySelector('#columns .text').textContent.length > 10", 60);
    await page.value("document.querySelector('.settings').open = true");
    await page.click("#seed");
    await page.key("Enter");
    await done();
    assert.equal(sweeps().length, 1);
    assert.equal(await text("#run"), "Run again");
  }));

test("a text of another vector is told apart until it is run again", mocked, () =>
  opened(async () => {
    await ask("How was your day?", 8);
    await done();
    await set("#vector", "formal");
    assert.match(await text("#columns article:last-child .stale"), /from cheerful at \+2: run again/);
    assert.equal(await count("#columns .stale:not([hidden])"), 2);
    assert.match(await text("#facts"), /^“formal” is added at layer 14 to the tokens of the prompt within the user's words; its length/);
    assert.equal(await text("#columns article:last-child .dose"), "dose not known yet");
    await page.click("#run");
    await done();
    assert.equal(await count("#columns .stale:not([hidden])"), 0);
    assert.match(await text("#columns article:last-child .dose"), /^dose 0/);
    assert.equal(sweeps().at(-1).vector, "formal");
  }),
);

test("a stream stops at a press of Stop, and the server is told", () =>
  opened(async () => {
    await ask("A slow answer, please.", 512);
    await page.until("document.querySelector('#columns .text').textContent.length > 10", 60);
    await page.click("#run");
    await page.until("document.getElementById('run').textContent === 'Run again'");
    assert.match(await text("#columns .note"), /stopped/);
    const stopped = await text("#columns .text");
    const streams = async () => (await (await fetch(`${address()}/health`)).json()).streams;
    await until(async () => (await streams()).running === 0, "no stream runs");
    assert.equal(await text("#columns .text"), stopped);
  }));

test("a conversation goes on from the picked column", () =>
  opened(async () => {
    await ask("How was your day?", 8);
    await done();
    const answer = await text("#columns article:last-child .text");
    const pressed = () => page.value("[...document.querySelectorAll('.pick')].map((pick) => pick.getAttribute('aria-pressed')).join()");
    assert.equal(await pressed(), "false,true,false");
    await page.click("#columns article:last-child .pick");
    assert.equal(await pressed(), "false,false,true");
    assert.equal(await page.value("document.activeElement.id"), "question");
    await ask("And tomorrow?", 8);
    await done();
    assert.equal(await text("#history .asked"), "How was your day?");
    assert.equal(await text("#history .said .text"), answer);
    assert.equal(await text("#history .said .magnitude"), "+2");
    if (server) {
      const body = sweeps().at(-1);
      assert.deepEqual(
        body.messages.map(({ content }) => content),
        ["How was your day?", answer, "And tomorrow?"],
      );
      assert.deepEqual(body.magnitudes, [-2, 0, 2]);
    }
  }));

test("what the model and the reader write is shown as text, whatever is in it", mocked, () =>
  opened(async () => {
    const question = "<b>Write HTML</b>";
    await ask(question);
    await done();
    assert.equal(await text("#asked"), question);
    assert.match(await text("#columns .text"), /^A <b>bold<\/b> word, <img src=x> and <script>.*<\/script> &amp; so on\.$/);
    await ask("And more?", 8);
    await done();
    assert.match(await text("#history .said .text"), /<script>/);
    await set("#score-text", "A <b> & <i>.");
    await score();
    assert.match(await text("#tokens"), /^A <b> & <i>\.$/);
    assert.equal(await count("main :is(#history, #columns, #tokens, #score-rows) :is(b, i, img, script)"), 0);
    assert.notEqual(await page.value("document.title"), "run");
  }));

test("an answer whose numbers are not finite says so, and has no dose", mocked, () =>
  opened(async () => {
    await set("#vector", "formal");
    await ask("overflow");
    await done();
    const note = await text("#columns article:last-child .note");
    assert.equal(note, "1 token · broke down: the numbers are not finite · 100 % of words differ from 0");
    assert.match(await text("#columns article:first-child .note"), /dose 0\.030/);
  }));

test("the curve is walked by keyboard, and Enter compares the texts there", () =>
  opened(async () => {
    await showCurve();
    assert.equal(await count("#chart .panel-label"), 3);
    // At least three values on each of the three axes, and the name of the magnitude.
    assert.ok((await count("#chart .tick.end")) >= 10);
    await page.value("document.querySelector('.strip[tabindex=\"0\"]').focus()");
    await page.key("ArrowRight");
    assert.match(await text("#readout"), /^At \+\d.*: dose .*, margin \+.*, KL .*, perplexity/);
    await page.key("End");
    const [, last] = /^At \+(\d)/.exec(await page.value("document.activeElement.getAttribute('aria-label')"));
    await page.key("Enter");
    await done();
    assert.equal(await page.value("document.getElementById('compare').hidden"), false);
    assert.equal(await focused(), "run");
    assert.equal(await labels("#columns article"), `Magnitude 0,Magnitude +${last}`);
    assert.equal(await text("#asked"), "How was your day?");
    assert.notEqual(await text("#columns article:last-child .text"), "");
    // Another question, and what is being typed stays.
    await ask("And tomorrow?", 8);
    await done();
    await page.type("A draft");
    await page.click("#tab-dose");
    await page.value("[...document.querySelectorAll('.strip')].at(0).dispatchEvent(new MouseEvent('click'))");
    await done();
    assert.equal(await labels("#columns article"), `Magnitude −${last},Magnitude 0`);
    assert.equal(await text("#asked"), "And tomorrow?");
    assert.equal(await text("#history .asked"), "How was your day?");
    assert.equal(await page.value("document.getElementById('question').value"), "A draft");
  }));

test("a file that is no curve is refused in one line", () =>
  opened(async () => {
    await page.click("#tab-dose");
    await give("#curve-file", fileURLToPath(import.meta.url));
    await page.until("!document.getElementById('dose-error').hidden");
    assert.equal(
      await text("#dose-error"),
      "views.mjs was not read: it is not JSON. Give a file that bipo eval --json wrote.",
    );
  }));

test("a curve of one point, with holes or with values that are not finite is drawn", () =>
  opened(async () => {
    const measure = (value) => ({ value, low: value, high: null });
    const rows = [
      [{ subject: "v", magnitude: 2, measures: { margin: measure(0) } }],
      [
        { subject: "v", magnitude: -1, measures: { perplexity: measure(-3), kl: measure(null), dose: measure(0) } },
        { subject: "told", magnitude: null, measures: { perplexity: measure(20) } },
        { subject: "v", magnitude: 1e6, measures: { perplexity: measure(1e300), margin: measure(-1e-9), kl: null } },
      ],
    ];
    for (const [i, some] of rows.entries()) {
      await drop(`file-${i}.json`, some);
      assert.equal(await count(".strip"), i + 1);
      assert.doesNotMatch(await page.value("document.getElementById('chart').innerHTML"), /NaN|Infinity|undefined/);
    }
  }));

test("tokens are coloured by projection and by change, and walked by keyboard", () =>
  opened(async () => {
    await score();
    const tokens = await count(".token");
    assert.ok(tokens > 10);
    assert.equal(await count("#score-rows tr"), tokens);
    assert.ok((await count(".token.positive, .token.negative")) > tokens / 2);
    await page.value("document.getElementById('tokens').focus()");
    const first = await text("#token-numbers");
    await page.key("ArrowRight");
    assert.notEqual(await text("#token-numbers"), first);
    assert.match(await text("#token-numbers"), /projection [+−]?0\.\d+, log-prob −\d.*with the vector −\d/);
    // The pointer shows the numbers of the token that it is over.
    await page.hover("#token-7");
    assert.equal(await text("#token-numbers"), await page.value("document.getElementById('token-7').ariaLabel"));
    assert.equal(await page.value("document.querySelector('#tokens [aria-selected=true]').id"), "token-7");
    await page.click("#by-change");
    assert.equal(await text("#scale-name"), "change of log-prob");
    // The first token has no log-prob, so no change either.
    assert.equal(await count("#token-0.positive, #token-0.negative"), 0);
  }));

test("of two readings of a text the later one counts, and magnitude 0 changes nothing", mocked, () =>
  opened(async () => {
    await score();
    await page.click("#by-change");
    await set("#score-text", "A slow reading.");
    await set("#score-magnitude input.magnitude", "3");
    await set("#score-text", "A fast one.");
    await set("#score-magnitude input.magnitude", "0");
    await until(() => server.log.includes("left"), "the slow reading is left");
    await page.until("document.getElementById('tokens').textContent === 'A fast one.'");
    assert.match(await text("#scored-of"), /at magnitude 0:/);
    assert.equal(await count(".token.positive, .token.negative"), 0);
    assert.match(await text("#score-rows tr:last-child"), /(−\d\.\d\d)\1-?0\.00$/);
    assert.equal(await text("#score-run"), "Read the text");
  }));

test("a link reopens the view with what was set", () =>
  opened(async () => {
    await ask("Is it “late”? It's 50 % & more", 16);
    await done();
    await page.click("#tab-export");
    assert.equal(await count("#exports article"), 5);
    assert.match(await text("#exports"), /"apply": \{ "prompt": "all", "generation": "all" \}/);
    assert.match(await text("#exports"), /curl -N http/);
    assert.match(await text("#exports"), /It'\\''s 50 % & more/);
    assert.match(await text("#exports"), /--control-vector-scaled \S+\.gguf:2/);
    const link = await text("#link-text");
    const shown = await text("#exports");
    await page.open(link);
    assert.equal(await page.value("document.querySelector('[role=tab][aria-selected=true]').id"), "tab-export");
    assert.equal(await text("#exports"), shown);
    await page.click("#tab-compare");
    assert.equal(await page.value("document.getElementById('question').value"), "Is it “late”? It's 50 % & more");
    assert.equal(await page.value("document.getElementById('max_tokens').value"), "16");
  }));

test("a link with nonsense in it opens the page all the same", () =>
  opened(
    async () => {
      assert.equal(await count("#columns article"), 3);
      assert.equal(await page.value("document.getElementById('temperature').value"), "0");
      assert.equal(await count("#history article"), 0);
    },
    { hash: "#view=none&m=x,NaN,1e999,-1,2&temperature=hot&history=[{%22asked%22:3}]&point=&vector=no+such" },
  ));

test("a link's conversation is what was asked and answered, and nothing else", () => {
  const history = [{ asked: "a", answer: "b", magnitude: 1, rest: [{}] }];
  return opened(
    async () => {
      assert.equal(await text("#history"), "a+1b");
      await page.click("#tab-export");
      assert.doesNotMatch(await text("#link-text"), /rest/);
    },
    { hash: `#history=${encodeURIComponent(JSON.stringify(history))}` },
  );
});

test("a link's settings are moved into their bounds", () =>
  opened(
    async () => {
      const value = (name) => page.value(`document.getElementById("${name}").value`);
      assert.deepEqual(await Promise.all(["temperature", "top_p", "max_tokens", "seed"].map(value)), ["2", "0.01", "1", "3"]);
    },
    { hash: "#temperature=9&top_p=-1&max_tokens=0.2&seed=2.6" },
  ));

test("the theme follows the system, is switched, and is remembered", () =>
  opened(async () => {
    const back = () => page.value("getComputedStyle(document.body).backgroundColor");
    await page.prefer("dark");
    const dark = await back();
    await page.click("#theme");
    const light = await back();
    assert.notEqual(light, dark);
    await page.open(address());
    assert.equal(await back(), light);
    await page.click("#theme");
    assert.equal(await back(), dark);
    await page.value("localStorage.clear()");
  }));

test("all that can be used is reached by the Tab key, is seen to have the focus, and has a name", () =>
  opened(async () => {
    await showCurve();
    await score();
    for (const view of VIEWS) {
      await page.click(`#tab-${view}`);
      const reached = new Set();
      for (let i = 0; i < 60; i++) {
        await page.key("Tab");
        const at = await page.value(`(() => { const e = document.activeElement; const style = getComputedStyle(e);
          return e === document.body ? null : [e.id || e.className.baseVal || e.className || e.tagName, style.outlineStyle !== "none" || style.strokeWidth !== "1px"]; })()`);
        if (!at) continue;
        assert.ok(at[1], `${view}: ${at[0]} shows no focus`);
        reached.add(at[0]);
      }
      // An element without id goes by its class or its tag.
      for (const id of ["vector", "manage", "theme", `tab-${view}`])
        assert.ok(reached.has(id), `${view}: ${id} not in ${[...reached]}`);
      const own = {
        compare: ["question", "run", "add"],
        dose: ["effect", "curve-file"],
        monitor: ["score-text", "score-run", "tokens"],
        export: ["small", "PRE"],
      };
      for (const id of own[view]) assert.ok(reached.has(id), `${view}: ${id} not in ${[...reached]}`);
      const { nodes } = await page.send("Accessibility.getFullAXTree");
      const used = ["button", "textbox", "slider", "combobox", "radio", "tab", "listbox", "option", "spinbutton", "link"];
      const nameless = nodes.filter(
        ({ role, name, ignored }) => !ignored && used.includes(role?.value) && !name?.value?.trim(),
      );
      assert.deepEqual(
        nameless.map(({ role }) => role.value),
        [],
        view,
      );
    }
    await page.click("#tab-compare");
    await page.key("ArrowRight");
    assert.equal(await page.value("document.activeElement.id"), "tab-dose");
    assert.equal(await page.value("document.getElementById('dose').hidden"), false);
  }));

test("a vector is added from a file and removed again", mocked, () =>
  opened(
    async () => {
      await addLayers();
      assert.equal(await page.value("document.getElementById('vector').value"), "layers");
      assert.equal(server.log.filter(({ method, path }) => method === "POST" && path === "/v1/steering/vectors").length, 1);
      await page.click("#manage");
      await remove("last-child");
      assert.equal(await page.value("document.getElementById('vector').value"), "cheerful");
      await give("#vector-file", CURVE);
      await page.click("#add-run");
      await page.until("!document.getElementById('add-error').hidden");
      assert.match(await text("#add-error"), /^Curve is no vector file: expected .*\.$/);
    },
    { expected: [/400 .*vectors\?name=curve/s] },
  ),
);

test("what was measured and read stays while the list of vectors changes", mocked, () =>
  opened(async () => {
    await drop("own.json", [{ subject: "v", magnitude: 1, measures: { margin: { value: 1 } } }]);
    await score();
    await page.click("#manage");
    await remove("last-child");
    await page.click("#close");
    assert.equal(await page.value("document.getElementById('scored').hidden"), false);
    await page.click("#tab-dose");
    assert.match(await text("#curve-of"), /^From own\.json/);
    await page.until("!document.getElementById('curve').hidden");
    assert.equal(await page.value("document.getElementById('vector').value"), "cheerful");
  }));

test("the last vector is removed, and nothing steers any more", mocked, () =>
  opened(async () => {
    await page.click("#manage");
    for (let left = await count("#vector-list li"); left > 0; left--) await remove("last-child");
    assert.equal(await focused(), "vector-name");
    await page.click("#close");
    assert.equal(await page.value("document.getElementById('no-vector').hidden"), false);
    await page.click("#tab-export");
    assert.doesNotMatch(await text("#exports"), /"vector": ""/);
    assert.doesNotMatch(await text("#link-text"), /vector=/);
    await page.click("#tab-dose");
    assert.equal(await page.value("document.getElementById('curve').hidden"), true);
    assert.equal(await page.value("document.getElementById('dose-error').hidden"), true);
    await page.click("#tab-compare");
    await ask("How was your day?", 8);
    assert.match(await text("#compare-error"), /^Add a vector first/);
  }));

test("a question that is refused, and a stream that breaks off, say so where they were asked", mocked, () =>
  opened(
    async () => {
      await ask("refuse");
      await page.until("!document.getElementById('compare-error').hidden");
      assert.equal(await text("#compare-error"), "Too many texts wait already: try again in a moment.");
      await ask("fail");
      await page.until("document.getElementById('compare-error').textContent.includes('memory')");
      assert.equal(await text("#compare-error"), "Out of memory for keys and values.");
      assert.notEqual(await text("#columns .text"), "");
      for (const question of ["end", "drop"]) {
        await ask(question);
        await page.until("document.getElementById('compare-error').textContent.includes('broke off')");
        assert.equal(await text("#compare-error"), "The stream broke off. Run it again.");
        assert.equal(await text("#compare-status"), "");
        assert.match(await text("#columns .note"), /^stopped/);
        assert.equal(await text("#run"), "Run again");
        assert.equal(await page.value("document.getElementById('gone').hidden"), question === "end");
      }
      await page.until("document.getElementById('gone').hidden");
    },
    { expected: [/429/, /ERR_INCOMPLETE_CHUNKED/] },
  ),
);

test("a server that went away is missed, and found when it is back", mocked, () =>
  opened(
    async () => {
      const { port } = server;
      await score();
      await drop("own.json", [{ subject: "v", magnitude: 1, measures: { margin: { value: 1 } } }]);
      await page.click("#tab-compare");
      await server.stop();
      await ask("How was your day?", 8);
      await page.until("!document.getElementById('gone').hidden");
      assert.match(await text("#compare-error"), /does not answer/);
      await restart(port);
      await page.until("document.getElementById('gone').hidden");
      await page.click("#run");
      await done();
      assert.match(await text("#curve-of"), /^From own\.json/);
      await page.click("#tab-monitor");
      assert.equal(await page.value("document.getElementById('scored').hidden"), false);
    },
    { expected: [/ERR_CONNECTION/] },
  ),
);

test("no view is wider than its window, at any size, in light and dark", { ...mocked, timeout: 600_000 }, async () => {
  if (options.screenshots) await mkdir(options.screenshots, { recursive: true });
  for (const [name, width, height, scheme] of SIZES) {
    await opened(async () => {
      await page.size(width, height);
      await page.prefer(scheme);
      const look = async (view) => {
        const wide = await page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        const out =
          await page.value(`[...document.querySelectorAll("main *, .top *, dialog[open] *")].filter((e) => e.checkVisibility()
          && !e.closest(".unseen, .scroll, pre, option") && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.id || e.className || e.tagName).join()`);
        assert.deepEqual([wide, out], [0, ""], `${name} ${view}`);
        if (!options.screenshots) return;
        await page.value("document.activeElement.blur()");
        await page.value("scrollTo(0, 0)");
        await page.screenshot(join(options.screenshots, `${name}-${view}.png`));
        // Once more down to the end of the page.
        await page.size(width, await page.value("document.documentElement.scrollHeight"));
        await page.screenshot(join(options.screenshots, `${name}-${view}-all.png`));
        await page.size(width, height);
      };
      await look("start");
      await ask("Give me a plan for a rainy Sunday.", 72);
      await done();
      await look("compare");
      await showCurve();
      await page.value("[...document.querySelectorAll('.strip')].at(-3).focus()");
      await look("dose");
      await score();
      await look("monitor");
      await page.click("#tab-export");
      await look("export");
      await page.click("#manage");
      await look("vectors");
    });
  }
});
