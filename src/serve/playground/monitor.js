// The view Monitor: tokens of a text, coloured by how far the model's residual points along the vector there, or by how much
// likelier or less likely the vector makes each.

import { score } from "./api.js";
import { $, colour, complain, fixed, h, minus, signed } from "./dom.js";
import { Slider } from "./slider.js";
import { chosenVector, on, save, state, steering } from "./state.js";

const SAMPLE = "What a wonderful morning! I missed the bus, my coffee was cold, and it still feels like a great day.";
const NAMES = { projection: "projection", change: "change of log-prob" };

let slider;
/** What the server said last, and the magnitude it was asked for; null before. */
let scored = null;
/** Stops the request that runs, if one does. */
let running = null;
/** Index of the token whose numbers are shown. */
let current = 0;

export function start() {
  slider = new Slider(
    state.score.magnitude,
    "Magnitude of the change",
    () => {},
    (value) => {
      state.score.magnitude = value;
      save();
      if (scored) run();
    },
  );
  $("score-magnitude").append(h("div.row", {}, slider.field, slider.range), slider.dose);
  $("score").addEventListener("submit", (event) => (event.preventDefault(), run()));
  $("score-text").addEventListener("input", () => {
    state.score.text = $("score-text").value;
    save();
  });
  $("score-text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    run();
  });
  for (const by of Object.keys(NAMES)) {
    $(`by-${by}`).addEventListener("change", () => {
      state.score.by = by;
      save();
      draw();
    });
  }
  const tokens = $("tokens");
  tokens.addEventListener("pointerover", ({ target }) => target.dataset.at && show(Number(target.dataset.at)));
  tokens.addEventListener("focus", () => show(current));
  tokens.addEventListener("keydown", (event) => {
    const last = scored.tokens.length - 1;
    const at = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: last }[event.key];
    if (at === undefined) return;
    event.preventDefault();
    show(Math.max(0, Math.min(last, at)));
  });
  readState();
  for (const name of ["vector", "vectors", "curve", "dose"]) on(name, () => slider.draw());
  on("vector", () => {
    running?.abort();
    scored = null;
    draw();
  });
}

export function readState() {
  $("score-text").value = state.score.text || SAMPLE;
  $(`by-${state.score.by}`).checked = true;
  slider.value = state.score.magnitude;
  slider.draw();
  draw();
}

async function run() {
  running?.abort();
  complain($("score-error"), null);
  if (!chosenVector()) return complain($("score-error"), "Add a vector first: there is nothing to project on.");
  const text = $("score-text").value;
  if (!text.trim()) return complain($("score-error"), "Write a text first.");
  const { magnitude } = state.score;
  const own = (running = new AbortController());
  $("score-run").textContent = "Reading";
  // With steering of magnitude 0 there would be no vector to project on; without any the server changes by magnitude 1.
  const body = { text, ...(magnitude ? { steering: steering(magnitude) } : { vector: state.vector }) };
  try {
    const answer = await score(body, own.signal);
    if (!magnitude) for (const token of answer.tokens) token.steered_logprob = token.logprob;
    scored = { ...answer, magnitude };
    current = 0;
  } catch (error) {
    if (error.name === "AbortError") return;
    complain($("score-error"), error);
  } finally {
    if (running === own) $("score-run").textContent = "Read the text";
  }
  draw();
}

const change = ({ logprob, steered_logprob }) =>
  logprob === null || steered_logprob === null ? NaN : steered_logprob - logprob;
const value = (token) => (state.score.by === "change" ? change(token) : token.projection);

/** A token as it can be seen: a line feed is a sign. */
const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥") || "·";

function draw() {
  $("scored").hidden = !scored;
  $("score-magnitude").hidden = state.score.by !== "change";
  if (!scored) return;
  const { tokens } = scored;
  const most = Math.max(...tokens.map(value).filter(Number.isFinite).map(Math.abs), 1e-9);
  const spans = tokens.map((token, i) => {
    const span = h(
      "span.token",
      { id: `token-${i}`, role: "option", "aria-label": describe(token), "data-at": i },
      visible(token.text),
    );
    if (Number.isFinite(value(token))) colour(span, value(token), most);
    return token.text.includes("\n") ? [span, h("br")] : span;
  });
  $("tokens").replaceChildren(...spans.flat());
  $("scale-low").textContent = minus((-most).toFixed(2));
  $("scale-high").textContent = `+${most.toFixed(2)}`;
  $("scale-name").textContent = NAMES[state.score.by];
  const at = `${scored.vector}, layer ${scored.layer}`;
  $("scored-of").textContent =
    state.score.by === "change"
      ? `Change of each token's log-probability by ${at}, at magnitude ${signed(scored.magnitude)}: orange tokens become likelier, blue ones less likely.`
      : `Cosine between the model's residual at each token and ${at}: orange points along the vector, blue against it.`;
  const row = (token, i) =>
    h(
      "tr",
      {},
      h("td", {}, String(i)),
      h("th.left", { scope: "row" }, visible(token.text)),
      h("td", {}, String(token.id)),
      [
        fixed(token.projection, 3, true),
        fixed(token.logprob ?? NaN),
        fixed(token.steered_logprob ?? NaN),
        fixed(change(token), 2, true),
      ].map((text) => h("td", {}, text)),
    );
  $("score-rows").replaceChildren(...tokens.map(row));
  show(current);
}

function describe(token) {
  const parts = [`projection ${fixed(token.projection, 3, true)}`];
  if (token.logprob !== null) parts.push(`log-prob ${fixed(token.logprob)}`);
  if (Number.isFinite(change(token)))
    parts.push(`with the vector ${fixed(token.steered_logprob)} (${fixed(change(token), 2, true)})`);
  return `“${visible(token.text).trim()}”: ${parts.join(", ")}`;
}

function show(at) {
  current = at;
  const tokens = $("tokens");
  for (const span of tokens.querySelectorAll("[aria-selected=true]")) span.removeAttribute("aria-selected");
  const span = $(`token-${at}`);
  span.setAttribute("aria-selected", "true");
  tokens.setAttribute("aria-activedescendant", span.id);
  $("token-numbers").textContent = describe(scored.tokens[at]);
}
