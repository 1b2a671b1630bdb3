// What the page shows: one object, kept in the address behind the #, so that a reload or a link opens the same view. Texts of
// answers are in it only where the conversation goes on from them.

export const DEFAULTS = { temperature: 0, top_p: 1, max_tokens: 128, seed: 0, system: "" };
const BOUNDS = { temperature: [0, 2], top_p: [0.01, 1], max_tokens: [1, 4096], seed: [0, Number.MAX_SAFE_INTEGER] };
const WHOLE = ["max_tokens", "seed"];

export const state = {
  view: "compare",
  /** Name of the chosen vector. */
  vector: "",
  /** Magnitudes side by side, ascending. 0 is always among them. */
  magnitudes: [-2, 0, 2],
  /** Whether nobody chose them: they are then the usual ones of the vector that is chosen. */
  isUsual: true,
  /** Which prompts are steered: "" as the server does by itself, "off" all of them, "=NAME" those on which a condition fires. */
  when: "",
  settings: { ...DEFAULTS },
  /** Turns that the conversation went on from: what was asked, the answer, its magnitude. */
  history: [],
  /** The question that was asked last, or is being typed. */
  question: "",
  score: { text: "", by: "projection", magnitude: 1 },

  // What follows is not in the address.
  /** The magnitude chosen in the curve. */
  point: null,
  model: "",
  vectors: [],
  /** The server's conditions: `{ when, name, layer, reading, comparison, threshold }`, where `when` is as above. */
  conditions: [],
  /** `{ report, from }` of the chosen vector's curve, or null. */
  curve: null,
  /** Dose of magnitude 1 by the name of a vector, as soon as an answer told it. */
  doses: {},
};

const listeners = {};
/** Calls `listener` when `name` changes: view, vectors, vector, when, curve, dose, point; when answers have ended, or the server is
 * back. */
export const on = (name, listener) => (listeners[name] ??= []).push(listener);
export const emit = (name) => (listeners[name] ?? []).forEach((listener) => listener());

export const chosenVector = () => state.vectors.find((vector) => vector.name === state.vector);

/** Whether a vector is taken out of the residual and not added. */
export const isTakenOut = (vector = chosenVector()) => vector?.operation === "ablate";

/** The magnitudes of a vector where nobody chose any. */
export const usualMagnitudes = () => (isTakenOut() ? [0, 1] : [-2, 0, 2]);

/** The condition that prompts are asked by, if there is one. */
export const condition = () => state.conditions.find(({ when }) => when === state.when);

/** The conversation as the server takes it, up to a question. */
export function messages(question) {
  const turns = state.history.flatMap(({ asked, answer }) => [message("user", asked), message("assistant", answer)]);
  const system = state.settings.system ? [message("system", state.settings.system)] : [];
  return [...system, ...turns, message("user", question)];
}
const message = (role, content) => ({ role, content });

/** The fields that say how an answer is sampled. */
export function sampling() {
  const { system, ...fields } = state.settings;
  return fields;
}

/** A vector at a magnitude, as a request's `steering` field. */
export const steering = (magnitude) => ({ vectors: [{ source: state.vector, scale: magnitude }] });

/** The vector and the condition, as fields of a sweep. */
export function target() {
  if (!state.when) return { vector: state.vector };
  return { steering: { ...steering(1), when: state.when === "off" ? null : state.when.slice(1) } };
}

const number = (text, usual) => (text.trim() && Number.isFinite(Number(text)) ? Number(text) : usual);

/** A setting as it was typed or linked, moved into its bounds; the usual one if it is no number. */
export function setting(name, text) {
  if (name === "system") return text.trim();
  const [low, high] = BOUNDS[name];
  const value = Math.min(high, Math.max(low, number(text, DEFAULTS[name])));
  return WHOLE.includes(name) ? Math.round(value) : value;
}

let timer = 0;
/** Writes the state into the address soon: browsers limit how often that is done. */
export function save() {
  clearTimeout(timer);
  timer = setTimeout(address, 250);
}

/** Writes the state behind the # of the address, and returns the address. */
export function address() {
  clearTimeout(timer);
  const fields = new URLSearchParams({ view: state.view });
  const put = (name, value, usual) => value !== usual && value !== null && fields.set(name, value);
  put("vector", state.vector, "");
  put("m", state.isUsual ? null : state.magnitudes.join(","));
  put("when", state.when, "");
  for (const [name, usual] of Object.entries(DEFAULTS)) put(name, state.settings[name], usual);
  put("question", state.question, "");
  put("history", JSON.stringify(state.history), "[]");
  put("text", state.score.text, "");
  put("by", state.score.by, "projection");
  put("score_m", state.score.magnitude, 1);
  history.replaceState(null, "", `#${fields}`);
  return location.href;
}

/** Reads the state from the address. What is not valid there stays as it was. */
export function load() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const text = (name, usual) => fields.get(name) ?? usual;
  state.view = ["compare", "dose", "monitor", "export"].find((view) => view === fields.get("view")) ?? state.view;
  state.vector = text("vector", state.vector);
  state.isUsual = !fields.has("m");
  state.when = /^(off|=.+)$/.test(fields.get("when")) ? fields.get("when") : "";
  const listed = text("m", usualMagnitudes().join(",")).split(",").map(Number).filter(Number.isFinite);
  state.magnitudes = [...new Set([...listed, 0])].sort((a, b) => a - b).slice(0, 5);
  if (!state.magnitudes.includes(0)) state.magnitudes.splice(-1, 1, 0);
  if (state.magnitudes.length < 2) state.magnitudes.push(2);
  for (const name of Object.keys(DEFAULTS)) state.settings[name] = setting(name, text(name, ""));
  state.question = text("question", "");
  state.history = turns(text("history", "[]"));
  state.score.text = text("text", state.score.text);
  state.score.by = text("by", "projection") === "change" ? "change" : "projection";
  state.score.magnitude = number(text("score_m", ""), 1);
}

function turns(json) {
  try {
    const isTurn = ({ asked, answer, magnitude }) =>
      typeof asked === "string" && typeof answer === "string" && Number.isFinite(magnitude);
    const pure = ({ asked, answer, magnitude }) => ({ asked, answer, magnitude });
    return JSON.parse(json).filter(isTurn).map(pure);
  } catch {
    return [];
  }
}
