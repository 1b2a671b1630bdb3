// The view Compare: a conversation whose last question is answered at several magnitudes side by side.

import { Answer, answerAll, spoken } from "./answer.js";
import { $, colour, complain, fixed, h, rule, signed } from "./dom.js";
import { Slider, reach } from "./slider.js";
import { DEFAULTS, chosenVector, condition, messages, sampling, setting, target, usualMagnitudes } from "./state.js";
import { emit, on, save, state } from "./state.js";

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
  $("ask").addEventListener("submit", (event) => (event.preventDefault(), running ? running.abort() : ask()));
  // The second half of a double click would stop what the first one started, or erase it.
  $("run").addEventListener("click", (event) => event.detail > 1 && event.preventDefault());
  $("clear").addEventListener("click", (event) => event.detail > 1 || clear());
  $("add").addEventListener("click", add);
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
  for (const name of Object.keys(DEFAULTS)) $(name).addEventListener("change", readSettings);
  for (const text of STARTERS) $("starters").append(h("button.small", { type: "button", click: () => ask(text) }, text));
  $("auto").addEventListener("click", () => place([chosenVector().calibration.minus, 0, chosenVector().calibration.plus]));
  on("vector", () => {
    const usual = usualMagnitudes();
    if (!state.isUsual || running || usual.join() === state.magnitudes.join()) return;
    place(usual);
    state.isUsual = true;
  });
  for (const name of ["vector", "vectors", "when", "curve", "dose"]) on(name, () => (drawSliders(), drawButtons()));
}

/** Puts columns at these magnitudes, with the answers of those that are there already. */
function place(magnitudes) {
  const known = (magnitude) => columns.find((one) => one.magnitude === magnitude);
  columns = magnitudes.filter(Number.isFinite).map((magnitude) => known(magnitude) ?? column(magnitude));
  if (!columns.includes(picked)) picked = null;
  sort();
}

/** Shows what the state says, as after a link was followed. */
export function readState() {
  running?.abort();
  [asked, picked, running] = ["", null, null];
  columns = state.magnitudes.map(column);
  for (const [name, value] of Object.entries(state.settings)) $(name).value = value;
  $("question").value = state.question;
  draw();
}

function column(magnitude) {
  const one = { magnitude, answer: new Answer(magnitude) };
  const pinned = magnitude === 0;
  if (!pinned) {
    // 0 has its column already: a slider that is left there goes on to the other side.
    const settle = (value) => {
      one.magnitude = one.slider.value = value || -Math.sign(one.magnitude) * one.slider.range.step;
      sort();
    };
    one.slider = new Slider(magnitude, "Magnitude", (value) => value && (one.magnitude = value), settle);
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
  [state.magnitudes, state.isUsual] = [columns.map(({ magnitude }) => magnitude), false];
  save();
  drawSliders();
  drawButtons();
}

function add() {
  const set = columns.map(({ magnitude }) => magnitude);
  const free = [1, -1, 2, -2, 3, -3, 4].find((magnitude) => !set.includes(magnitude)) ?? Math.max(...set) + 1;
  const added = column(free);
  columns.push(added);
  sort();
  added.slider.range.focus();
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
  state.history = [];
  state.question = "";
  readState();
  save();
  $("question").focus();
}

/** Answers the last question at 0 and at a magnitude, which was chosen in the curve. What is being typed stays. */
export function compareAt(magnitude) {
  const typed = $("question").value;
  const [question, draft] = asked ? [asked, typed] : [typed.trim() || STARTERS[0], ""];
  // 0 is among the magnitudes already.
  if (magnitude) [state.magnitudes, state.isUsual] = [[0, magnitude].sort((a, b) => a - b), false];
  readState();
  ask(question);
  if (asked) $("question").value = draft;
  $("run").focus({ preventScroll: true });
}

function readSettings() {
  for (const name of Object.keys(DEFAULTS)) $(name).value = state.settings[name] = setting(name, $(name).value);
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
  const own = (running = new AbortController());
  draw();
  $("turn").scrollIntoView({ block: "nearest" });
  const [answers, magnitudes] = [columns.map(({ answer }) => answer), columns.map(({ magnitude }) => magnitude)];
  $("compare-status").textContent = `Answering at ${magnitudes.length} magnitudes`;
  const body = { messages: messages(asked), ...target(), ...sampling() };
  const error = await answerAll(body, answers, magnitudes, own.signal).then(() => null, (error) => error);
  // What was erased or is asked anew has columns of its own by now.
  if (running !== own) return;
  running = null;
  emit("answered");
  complain($("compare-error"), error);
  $("compare-status").textContent = error ? "" : `Done. ${[verdictText(), spoken(answers)].filter(Boolean).join(" ")}`;
  draw();
}

/** Moves the last question and its answers into the conversation, before another question is asked. */
function goOn() {
  const from = picked ?? columns.find(({ magnitude }) => magnitude === 0);
  if (!asked || !from.answer.text) return;
  state.history.push({ asked, answer: from.answer.text, magnitude: from.answer.magnitude });
  picked = null;
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

/** What the condition said of the question; empty where none was asked. */
function verdictText() {
  const verdict = columns.map(({ answer }) => answer.verdict).find(Boolean);
  if (!verdict) return "";
  const asks = condition();
  // Another condition may have been chosen since.
  const isAsked = asks && columns.some(({ answer }) => answer.verdict && answer.when === state.when);
  const score = `score ${fixed(verdict.score, 4)}${isAsked ? `, fires ${rule(asks)}` : ""}`;
  return verdict.fired
    ? `The condition fired (${score}): this prompt is steered.`
    : `The condition did not fire (${score}): every answer is the untouched model's.`;
}

/** A turn that is over: what was asked, and the answer it went on from. */
function turn({ asked, answer, magnitude }) {
  const said = h("div.said", {}, h("strong.magnitude", {}, signed(magnitude)), h("div.text", { dir: "auto" }, answer));
  colour(said, magnitude, reach());
  return h("article.turn", {}, h("p.asked", { dir: "auto" }, asked), said);
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
  $("run").textContent = running ? "Stop" : !typed && asked ? "Run again" : "Ask";
  const verdict = verdictText();
  $("verdict").textContent = verdict;
  $("verdict").hidden = !verdict;
  const { minus, plus, budget } = chosenVector()?.calibration ?? {};
  const calibrated = [minus, 0, plus].filter(Number.isFinite);
  $("auto").hidden = calibrated.length < 2 || calibrated.join() === columns.map(({ magnitude }) => magnitude).join();
  $("auto").textContent = `Calibrated: ${calibrated.map((magnitude) => signed(magnitude)).join(", ")}`;
  $("auto").title = `The largest magnitudes within ${budget}, as bipo calibrate found them`;
  $("auto").disabled = !!running;
  $("add").hidden = columns.length >= MOST;
  $("add").disabled = !!running;
  $("clear").disabled = !!running;
  $("clear").hidden = !asked && !state.history.length;
  const from = picked ?? columns.find(({ magnitude }) => magnitude === 0);
  $("question").placeholder = asked
    ? `Ask on: the conversation continues from the answer at ${signed(from.answer.magnitude)}`
    : "Ask the model something";
  for (const one of columns) {
    const { answer, magnitude, pick, stale, element } = one;
    const other = magnitude !== 0 && answer.vector !== state.vector;
    const differs = magnitude !== 0 && answer.when !== state.when;
    const isStale = !!answer.text && !running && (answer.magnitude !== magnitude || other || differs);
    stale.hidden = !isStale;
    const source = `${other ? `${answer.vector} at ` : ""}${signed(answer.magnitude)}${differs ? " under another condition" : ""}`;
    stale.textContent = isStale ? `This text is from ${source}: run again` : "";
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
