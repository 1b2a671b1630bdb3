// The view Compare: a conversation whose last question is answered at several magnitudes side by side.

import { Answer, answerAll, spoken } from "./answer.js";
import { $, colour, complain, h, signed } from "./dom.js";
import { Slider, reach } from "./slider.js";
import { chosenVector, emit, messages, on, sampling, save, state } from "./state.js";

const MOST = 5;
const STARTERS = ["How was your day?", "Give me a plan for a rainy Sunday.", "My train is late. What should I do?"];

/** Columns by ascending magnitude: `{ magnitude, answer, slider, element, pick }`. */
let columns = [];
/** The question that the columns answer; empty before the first. */
let asked = "";
/** The column from which the conversation goes on. */
let picked = null;
/** Stops the stream that runs, if one does. */
let running = null;

export function start() {
  readState();
  $("ask").addEventListener("submit", (event) => (event.preventDefault(), ask()));
  $("stop").addEventListener("click", () => running?.abort());
  $("add").addEventListener("click", add);
  $("clear").addEventListener("click", clear);
  $("question").addEventListener("input", () => {
    state.question = $("question").value || asked;
    save();
    drawButtons();
  });
  $("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running) ask();
  });
  addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
  for (const name of ["temperature", "top_p", "max_tokens", "seed", "system"])
    $(name).addEventListener("change", readSettings);
  for (const text of STARTERS) $("starters").append(h("button.small", { type: "button", click: () => ask(text) }, text));
  for (const name of ["vector", "vectors", "curve", "dose"]) on(name, () => (drawSliders(), drawButtons()));
}

/** Shows what the state says, as after a link was followed. */
export function readState() {
  running?.abort();
  [asked, picked] = ["", null];
  columns = state.magnitudes.map(column);
  for (const [name, value] of Object.entries(state.settings)) $(name).value = value;
  $("question").value = state.question;
  draw();
}

function column(magnitude) {
  const one = { magnitude, answer: new Answer(magnitude) };
  const pinned = magnitude === 0;
  if (!pinned) {
    const settle = (value) => {
      // 0 has its column already.
      one.magnitude = one.slider.value = value || Number(one.slider.range.step);
      sort();
    };
    one.slider = new Slider(magnitude, "Magnitude", (value) => (one.magnitude = value), settle);
  }
  one.pick = h("button.small.pick", { type: "button", click: () => pick(one) }, "Continue from this");
  one.stale = h("p.stale", { hidden: true });
  const remove = h(
    "button.icon",
    { type: "button", "aria-label": "Remove this magnitude", title: "Remove", click: () => drop(one) },
    "×",
  );
  const head = pinned
    ? [h("div.row", {}, h("strong.magnitude", {}, "0"), h("span.muted", {}, "the untouched model"))]
    : [h("div.row", {}, one.slider.field, remove), one.slider.range, one.slider.dose];
  one.element = h(
    "article.answer",
    {},
    h("header", {}, head, one.stale),
    one.answer.body,
    h("footer", {}, one.answer.note, one.pick),
  );
  return one;
}

/** Puts the columns in order; the slider that moved keeps the focus. */
function sort() {
  const focused = document.activeElement;
  columns.sort((a, b) => a.magnitude - b.magnitude);
  $("columns").replaceChildren(...columns.map(({ element }) => element));
  focused?.focus?.();
  state.magnitudes = columns.map(({ magnitude }) => magnitude);
  save();
  drawSliders();
  drawButtons();
}

function add() {
  const set = columns.map(({ magnitude }) => magnitude);
  const free = [1, -1, 2, -2, 3, -3, 4].find((magnitude) => !set.includes(magnitude)) ?? Math.max(...set) + 1;
  columns.push(column(free));
  sort();
  columns.find(({ magnitude }) => magnitude === free).slider.range.focus();
}

function drop(one) {
  if (columns.length <= 2) return;
  columns = columns.filter((other) => other !== one);
  if (picked === one) picked = null;
  sort();
  $("add").focus();
}

function pick(one) {
  picked = one;
  drawButtons();
  $("question").focus();
}

function clear() {
  running?.abort();
  state.history = [];
  state.question = "";
  readState();
  save();
  $("question").focus();
}

function readSettings() {
  const number = (name, low, high, usual) => {
    const value = $(name).value.trim() === "" ? NaN : Number($(name).value);
    return Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : usual;
  };
  Object.assign(state.settings, {
    temperature: number("temperature", 0, 2, 0),
    top_p: number("top_p", 0.01, 1, 1),
    max_tokens: Math.round(number("max_tokens", 1, 4096, 128)),
    seed: Math.round(number("seed", 0, Number.MAX_SAFE_INTEGER, 0)),
    system: $("system").value.trim(),
  });
  for (const [name, value] of Object.entries(state.settings)) $(name).value = value;
  save();
  drawButtons();
}

/** Asks what was typed, or the last question again if nothing was. */
async function ask(text = $("question").value.trim()) {
  complain($("compare-error"), null);
  if (!chosenVector()) return complain($("compare-error"), "Add a vector first: there is nothing to steer with.");
  const again = !text || text === asked;
  if (!text && !asked) return $("question").focus();
  if (!again) goOn();
  asked = again ? asked : text;
  state.question = asked;
  $("question").value = "";
  save();
  running = new AbortController();
  draw();
  $("turn").scrollIntoView({ block: "nearest" });
  const [answers, magnitudes] = [columns.map(({ answer }) => answer), columns.map(({ magnitude }) => magnitude)];
  $("compare-status").textContent = `Answering at ${magnitudes.length} magnitudes`;
  try {
    const body = { messages: messages(asked), vector: state.vector, ...sampling() };
    await answerAll(body, answers, magnitudes, running.signal);
    $("compare-status").textContent = `Done. ${spoken(answers)}`;
  } catch (error) {
    complain($("compare-error"), error);
    $("compare-status").textContent = "";
  }
  running = null;
  draw();
}

/** Moves the last question and its answers into the conversation, before another question is asked. */
function goOn() {
  const from = picked ?? columns.find(({ magnitude }) => magnitude === 0);
  if (!asked || !from.answer.text) return;
  const { text, magnitude } = from.answer;
  const others = columns.filter((other) => other !== from && other.answer.text);
  const rest = others.map(({ answer }) => ({ answer: answer.text, magnitude: answer.magnitude }));
  state.history.push({ asked, answer: text, magnitude, rest });
  picked = null;
  for (const { answer } of columns) Object.assign(answer, { text: "", end: null, tokens: 0, dose: NaN });
}

function draw() {
  $("history").replaceChildren(...state.history.map(turn));
  $("asked").textContent = asked;
  $("turn").classList.toggle("empty", !asked);
  $("starters").hidden = !!asked || state.history.length > 0;
  $("columns").replaceChildren(...columns.map(({ element }) => element));
  const base = columns.find(({ magnitude }) => magnitude === 0).answer;
  for (const { answer } of columns) answer.draw(base);
  drawSliders();
  drawButtons();
}

/** A turn that is over: what was asked, the answer it went on from, and the others folded away. */
function turn({ asked, answer, magnitude, rest = [] }) {
  const said = ({ answer, magnitude }) => {
    const element = h("div.said", {}, h("strong.magnitude", {}, signed(magnitude)), h("div.text", { dir: "auto" }, answer));
    colour(element, magnitude, reach());
    return element;
  };
  const others = rest.length > 0 && h("details", {}, h("summary", {}, "The other answers"), rest.map(said));
  return h("article.turn", {}, h("p.asked", { dir: "auto" }, asked), said({ answer, magnitude }), others);
}

function drawSliders() {
  const most = Math.max(...columns.map(({ magnitude }) => Math.abs(magnitude)));
  for (const { slider, element, magnitude } of columns) {
    slider?.draw();
    colour(element, magnitude, most);
    element.setAttribute("aria-label", `Magnitude ${signed(magnitude)}`);
  }
}

function drawButtons() {
  const typed = $("question").value.trim();
  $("run").hidden = !!running;
  $("stop").hidden = !running;
  $("run").textContent = !typed && asked ? "Run again" : "Ask";
  $("add").hidden = columns.length >= MOST;
  $("add").disabled = !!running;
  $("clear").hidden = !asked && !state.history.length;
  const from = picked ?? columns.find(({ magnitude }) => magnitude === 0);
  $("question").placeholder = asked
    ? `Ask on: the conversation continues from the answer at ${signed(from.answer.magnitude)}`
    : "Ask the model something";
  for (const one of columns) {
    const { answer, magnitude, pick, stale, element } = one;
    const other = magnitude !== 0 && answer.vector !== state.vector;
    const isStale = !!answer.text && !running && (answer.magnitude !== magnitude || other);
    stale.hidden = !isStale;
    stale.textContent = isStale
      ? `This text is from ${other ? `${answer.vector} at ` : ""}${signed(answer.magnitude)}: run again`
      : "";
    element.classList.toggle("is-stale", isStale);
    pick.hidden = !answer.text || !!running;
    pick.setAttribute("aria-pressed", one === from);
    for (const control of element.querySelectorAll("header input, header button")) control.disabled = !!running;
    const remove = element.querySelector(".icon");
    if (remove) remove.hidden = columns.length <= 2;
  }
  const { temperature, max_tokens, seed, system } = state.settings;
  const sampled = temperature > 0 ? `temperature ${temperature}, seed ${seed}` : "likeliest token";
  $("settings-now").textContent = `${sampled}, at most ${max_tokens} tokens${system ? ", system prompt" : ""}`;
}
