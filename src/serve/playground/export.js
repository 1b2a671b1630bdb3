// The view Export: the request of the view Compare for other programs, and a link that opens the page as it is.

import { $, copyButton, h, quote } from "./dom.js";
import { address, chosenVector, condition, isTakenOut, messages, on, sampling, state, target } from "./state.js";

export function start() {
  for (const name of ["view", "vector", "when"]) on(name, () => state.view === "export" && draw());
  $("link").append(copyButton(address, "Copy the link"));
}

function draw() {
  const request = { question: state.question || "How was your day?", vector: state.vector || "cheerful" };
  $("exports").replaceChildren(...[curl, python, steer, llamaCpp, easySteer].map((form) => card(form(request))));
  $("link-text").textContent = address();
}

const card = ({ title, note, code }) =>
  h(
    "article.export",
    {},
    h("header", {}, h("h3", {}, title), copyButton(() => code)),
    h("p.muted", {}, note),
    h("pre", { tabindex: 0 }, h("code", {}, code)),
  );

/** JSON on one line. */
const json = (value) => JSON.stringify(value, null, 1).replace(/\n\s*/g, " ");
/** JSON with a line a field, and a line an element where a field is a list of objects. */
const lines = (value) => {
  const list = (items) => `[\n${items.map((item) => `    ${json(item)}`).join(",\n")}\n  ]`;
  const field = ([name, value]) => `  ${json(name)}: ${value[0]?.role ? list(value) : json(value)}`;
  return `{\n${Object.entries(value).map(field).join(",\n")}\n}`;
};

function curl({ question, vector }) {
  const body = {
    messages: messages(question),
    ...(state.vector ? target() : { vector }),
    magnitudes: state.magnitudes,
    ...sampling(),
    stream: true,
  };
  return {
    title: "curl",
    note: 'What this page asks for: all magnitudes in one stream. If the server has a key, add -H "Authorization: Bearer $BIPO_API_KEY".',
    code: `curl -N ${location.origin}/v1/sweep \\\n  -H 'Content-Type: application/json' \\\n  -d ${quote(lines(body))}`,
  };
}

function python({ question, vector }) {
  const { max_tokens, temperature, top_p, seed } = sampling();
  const when = !state.when ? "" : `, "when": ${state.when === "off" ? "None" : json(state.when.slice(1))}`;
  return {
    title: "Python, openai",
    note: "Any OpenAI client works: steering is one more field of the request.",
    code: `import os
from openai import OpenAI

key = os.environ.get("BIPO_API_KEY", "none")
client = OpenAI(base_url="${location.origin}/v1", api_key=key)
messages = [
${messages(question)
  .map((message) => `    ${json(message)},`)
  .join("\n")}
]
for magnitude in [${state.magnitudes.join(", ")}]:
    steering = {"vectors": [{"source": ${json(vector)}, "scale": magnitude}]${when}}
    answer = client.chat.completions.create(
        model=${json(state.model || "smollm2")}, messages=messages,
        max_tokens=${max_tokens}, temperature=${temperature}, top_p=${top_p}, seed=${seed},
        extra_body={"steering": steering},
    )
    print(magnitude, answer.choices[0].message.content)`,
  };
}

function steer({ question, vector }) {
  const asks = condition();
  const { max_tokens, temperature, top_p, seed } = sampling();
  const system = state.settings.system ? ["--system", quote(state.settings.system)] : [];
  const asked = state.history.length ? ["--prompts - <<'END'"] : [...system, "--prompt", quote(question)];
  const sample =
    temperature > 0 ? ["--temperature", temperature, ...(top_p < 1 ? ["--top-p", top_p] : []), "--seed", seed] : [];
  const code = [
    ["bipo steer", "--model", quote(state.model || "smollm2"), "--vector", quote(`${vector}.safetensors`)],
    [...(isTakenOut() ? ["--operation ablate"] : []), `--magnitudes=${state.magnitudes.join(",")}`, "--max-new-tokens", max_tokens, ...sample],
    [...(asks ? ["--when", quote(`${asks.name ?? "condition"}.safetensors`)] : []), ...asked],
  ];
  // One line: a conversation of the file that it reads.
  const conversation = state.history.length ? `\n${JSON.stringify({ messages: messages(question) })}\nEND` : "";
  return {
    title: "bipo steer",
    note: "The same without a server, from the vector's file.",
    code: code.map((words) => words.join(" ")).join(" \\\n  ") + conversation,
  };
}

/** For programs that take one magnitude. */
const strongest = () => state.magnitudes.toSorted((a, b) => Math.abs(b) - Math.abs(a) || b - a)[0];

/** For programs that add a vector, at every token and to every prompt. */
function atEveryToken() {
  if (isTakenOut()) return "which is added there; it cannot be taken out as it is here.";
  const { positions = "all", spans = null } = chosenVector() ?? {};
  const rule = spans ? `${positions} of ${spans} messages` : positions;
  const asks = condition() ? " It knows no condition: every prompt is steered." : "";
  return (rule === "all" ? "at every token." : `at every token; here it is at ${rule} alone.`) + asks;
}

function llamaCpp({ question, vector }) {
  const magnitude = strongest();
  const { max_tokens, temperature, top_p, seed } = sampling();
  const system = state.settings.system ? `-sys ${quote(state.settings.system)} ` : "";
  const sample = temperature > 0 ? `--temp ${temperature} --top-p ${top_p} --seed ${seed}` : "--temp 0";
  const earlier = state.history.length ? " The earlier turns are left out." : "";
  return {
    title: "llama.cpp",
    note: `One magnitude for the whole process, here the strongest, ${atEveryToken()}${earlier}`,
    code: `bipo convert ${quote(`${vector}.safetensors`)} ${quote(`${vector}.gguf`)}
llama-cli -m model.gguf --control-vector-scaled ${quote(`${vector}.gguf:${magnitude}`)} \\
  -n ${max_tokens} ${sample} -st ${system}-p ${quote(question)}`,
  };
}

function easySteer({ question, vector }) {
  const apply = { prompt: "all", generation: "all" };
  const one = isTakenOut()
    ? { source: vector, algorithm: "erase", apply }
    : { source: vector, scale: strongest(), apply };
  const what = isTakenOut() ? "which takes out all that lies along the vector, at every token." : `at the strongest magnitude, ${atEveryToken()}`;
  const body = {
    model: state.model || "smollm2",
    messages: messages(question),
    ...sampling(),
    steering: { vectors: [one] },
  };
  return {
    title: "EasySteer",
    note: `The body of a chat completion, ${what} Register ${quote(`${vector}.gguf`)} there first.`,
    code: lines(body),
  };
}
