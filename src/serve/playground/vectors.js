// The vector: which one steers, what it is in one sentence, and the dialog that adds and removes files.

import * as api from "./api.js";
import { $, complain, fixed, h, signed } from "./dom.js";
import { chosenVector, emit, save, state } from "./state.js";

const POSITIONS = {
  all: "to all tokens",
  prompt: "to the tokens of the prompt",
  response: "to the tokens of the answer",
  last: "to the prompt's last token",
};

export function start() {
  $("vector").addEventListener("change", () => choose($("vector").value));
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
    state.vectors = await api.vectors();
  } catch (error) {
    return complain($("vector-error"), error);
  }
  complain($("vector-error"), null);
  emit("vectors");
  choose(state.vector);
}

/** Chooses a vector; the default one if there is none of this name. */
export function choose(name) {
  const all = state.vectors;
  const found = all.find((vector) => vector.name === name) ?? all.find((vector) => vector.default) ?? all[0];
  // A link may name a vector before the server has listed any.
  if (found) state.vector = found.name;
  draw();
  save();
  emit("vector");
}

function draw() {
  const vector = chosenVector();
  $("vector").replaceChildren(...state.vectors.map(({ name }) => h("option", { value: name }, name)));
  $("vector").value = state.vector;
  $("vector").disabled = !vector;
  $("no-vector").hidden = !!vector || !document.documentElement.dataset.ready;
  $("facts").textContent = vector ? sentence(vector) : "";
  $("vector-list").replaceChildren(...state.vectors.map(row));
  $("vector-none").hidden = state.vectors.length > 0;
}

const layersOf = ({ layers }) => `layer${layers.length > 1 ? "s" : ""} ${layers.join(", ")}`;

function sentence(vector) {
  const { calibration: range, norm, positions } = vector;
  const calibrated = range ? ` Calibrated for ${range.budget}: ${signed(range.negative)} to ${signed(range.positive)}.` : "";
  return `“${vector.name}” is added at ${layersOf(vector)} ${POSITIONS[positions] ?? `(${positions})`}; its length is ${fixed(norm)}.${calibrated}`;
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
  });
  const about = `${layersOf(vector)}, length ${fixed(vector.norm)}${vector.default ? ", the default" : ""}`;
  return h("li", {}, h("span", {}, h("strong", {}, vector.name), " ", h("span.muted", {}, about)), remove);
}

async function add() {
  complain($("add-error"), null);
  const file = $("vector-file").files[0];
  const name = $("vector-name").value.trim();
  if (!file) return complain($("add-error"), "Choose a file first: a .safetensors, .gguf or .json vector.");
  if (!name) return complain($("add-error"), "Give the vector a name.");
  try {
    await api.addVector(name, await file.arrayBuffer());
    state.vector = name;
    $("add-vector").reset();
    await refresh();
    $("vectors").close();
  } catch (error) {
    complain($("add-error"), error);
  }
}
