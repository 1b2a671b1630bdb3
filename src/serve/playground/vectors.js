// The vector: which one steers, what it is in one sentence, and the dialog that adds and removes files.

import * as api from "./api.js";
import { $, complain, fixed, h, rule } from "./dom.js";
import { chosenVector, condition, emit, isTakenOut, save, state } from "./state.js";

const POSITIONS = {
  all: "to all tokens",
  prompt: "to the tokens of the prompt",
  response: "to the tokens of the answer",
  last: "to the prompt's last token",
};

/** Name and hash of the vector that steers, to tell when it is another one. */
let steers = "";

export function start() {
  $("vector").addEventListener("change", () => choose($("vector").value));
  $("when").addEventListener("change", () => {
    state.when = $("when").value;
    save();
    drawCondition();
    emit("when");
  });
  $("manage").addEventListener("click", () => $("vectors").showModal());
  $("first-vector").addEventListener("click", () => $("vectors").showModal());
  $("close").addEventListener("click", () => $("vectors").close());
  // A click beside the dialog closes it.
  $("vectors").addEventListener("click", (event) => event.target === $("vectors") && $("vectors").close());
  $("vector-file").addEventListener("change", () => {
    const file = $("vector-file").files[0];
    if (file && !$("vector-name").value) $("vector-name").value = file.name.replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "-");
  });
  $("add-vector").addEventListener("submit", (event) => (event.preventDefault(), add()));
}

/** Asks the server for its vectors, and keeps the chosen one if it is still there. */
export async function refresh() {
  try {
    const { data, conditions = [] } = await api.vectors();
    state.vectors = data;
    state.conditions = data.length ? await known(data[0].name, conditions) : [];
  } catch (error) {
    return complain($("vector-error"), error);
  }
  complain($("vector-error"), null);
  emit("vectors");
  choose(state.vector);
}

/** What the conditions ask: the server's own, if it has one, then those that have a name. */
async function known(vector, names) {
  const ask = async (when, name) => {
    const vectors = [{ source: vector }];
    const { when: asks } = await api.meaning(name === null ? { vectors } : { vectors, when: name });
    return asks && { when, name, ...asks };
  };
  const all = await Promise.all([ask("", null), ...names.map((name) => ask(`=${name}`, name))]);
  return all.filter(Boolean);
}

/** Chooses a vector; the default one if there is none of this name, and none if there is none at all. */
export function choose(name) {
  const all = state.vectors;
  const found = all.find((vector) => vector.name === name) ?? all.find((vector) => vector.default) ?? all[0];
  state.vector = found?.name ?? "";
  draw();
  save();
  const now = found ? `${found.name} ${found.sha256}` : "";
  if (now === steers) return;
  steers = now;
  emit("vector");
}

function draw() {
  const vector = chosenVector();
  const label = (vector) => (isTakenOut(vector) ? `${vector.name} (taken out)` : vector.name);
  $("vector").replaceChildren(...state.vectors.map((vector) => h("option", { value: vector.name }, label(vector))));
  $("vector").value = state.vector;
  $("vector").disabled = !vector;
  $("no-vector").hidden = !!vector || !document.documentElement.dataset.ready;
  $("facts").textContent = vector ? sentence(vector) : "";
  $("vector-list").replaceChildren(...state.vectors.map(row));
  $("vector-none").hidden = state.vectors.length > 0;
  drawCondition();
}

/** The control of which prompts are steered, where the server has a condition. */
function drawCondition() {
  const { conditions } = state;
  $("condition").hidden = !conditions.length;
  const all = { when: conditions.some(({ when }) => !when) ? "off" : "", text: "every prompt" };
  const text = (name) => (name ? `where “${name}” fires` : "where the condition fires");
  const options = [all, ...conditions.map(({ when, name }) => ({ when, text: text(name) }))];
  if (!options.some(({ when }) => when === state.when)) state.when = "";
  $("when").replaceChildren(...options.map(({ when, text }) => h("option", { value: when }, text)));
  $("when").value = state.when;
  const asks = condition();
  $("threshold").textContent = asks
    ? `It fires where the score of ${READINGS[asks.reading]} after layer ${asks.layer} is ${rule(asks)}. Other prompts get the untouched model.`
    : "";
}

const READINGS = { mean: "the mean over a prompt's tokens", last: "a prompt's last token" };

const layersOf = ({ layers }) => `layer${layers.length > 1 ? "s" : ""} ${layers.join(", ")}`;

function sentence(vector) {
  const { name, norm, positions, spans } = vector;
  const where = (POSITIONS[positions] ?? `to the positions ${positions}`) + (spans ? ` within the ${spans}'s words` : "");
  if (isTakenOut(vector)) {
    return `“${name}” is taken out ${where.replace("to", "of")} at ${layersOf(vector)}: magnitude 1 takes out all that lies along it.`;
  }
  return `“${name}” is added at ${layersOf(vector)} ${where}; its length is ${fixed(norm)}.`;
}

function row(vector) {
  const remove = h("button.small", { type: "button", "aria-label": `Remove ${vector.name}` }, "Remove");
  remove.addEventListener("click", async () => {
    // The first click asks, the second one removes.
    if (remove.textContent === "Remove") {
      remove.textContent = "Really remove?";
      remove.setAttribute("aria-label", `Really remove ${vector.name}?`);
      return;
    }
    complain($("add-error"), null);
    try {
      await api.removeVector(vector.name);
    } catch (error) {
      complain($("add-error"), error);
    }
    await refresh();
    $("vector-name").focus();
  });
  const about = `${layersOf(vector)}, length ${fixed(vector.norm)}${isTakenOut(vector) ? ", taken out" : ""}${vector.default ? ", the default" : ""}`;
  return h("li", {}, h("span", {}, h("strong", {}, vector.name), " ", h("span.muted", {}, about)), remove);
}

async function add() {
  complain($("add-error"), null);
  const file = $("vector-file").files[0];
  const name = $("vector-name").value.trim();
  if (!file) return complain($("add-error"), "Choose a file first: a .safetensors, .gguf or .json vector.");
  if (!name) return complain($("add-error"), "Give the vector a name.");
  $("add-run").disabled = true;
  try {
    await api.addVector(name, await file.arrayBuffer());
    state.vector = name;
    $("add-vector").reset();
    await refresh();
    $("vectors").close();
  } catch (error) {
    complain($("add-error"), error);
  }
  $("add-run").disabled = false;
}
