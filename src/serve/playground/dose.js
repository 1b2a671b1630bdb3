// The view Dose and response: what a vector does and what it damages, over magnitude, from what `bipo eval --json` wrote. A click
// at a magnitude shows its texts in the view Compare.

import { curve } from "./api.js";
import { draw } from "./chart.js";
import { limits, subjectRows } from "./damage.js";
import { $, complain, copyButton, fixed, h, quote, signed } from "./dom.js";
import { emit, isTakenOut, on, state } from "./state.js";

const TITLES = {
  margin: "margin",
  judge: "judge's score",
  moved_right: "moved right",
  prefers_chosen: "prefers chosen",
  numeric_match: "numeric match",
  kl: "KL, nats",
  perplexity: "perplexity",
};
const DAMAGE = ["kl", "perplexity"];
const SHARES = /^(moved_right|moved_wrong|prefers_chosen|prefers_chosen_per_token|repetition|numeric_match|(text_|prompts_)?fired|.*\.(fired|accuracy|matching|mc[12]|acc|acc_norm))$/;
/** Behaviours of which bipo has held-out pairs. */
const BUNDLED = ["cheerful", "formal", "concise"];
/** Measures that are no effect, or say what another one says. */
const NO_EFFECT = [...DAMAGE, "perplexity_ratio", "repetition", "dose", "moved_wrong", "prefers_chosen_per_token"];

export function start() {
  $("curve-file").addEventListener("change", () => $("curve-file").files[0] && read($("curve-file").files[0]));
  const drop = $("dose");
  drop.addEventListener("dragover", (event) => (event.preventDefault(), drop.classList.add("dragging")));
  drop.addEventListener("dragleave", () => drop.classList.remove("dragging"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("dragging");
    if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
  });
  $("effect").addEventListener("change", redraw);
  $("copy-eval").append(copyButton(evalCommand));
  new ResizeObserver(() => state.view === "dose" && redraw()).observe($("chart"));
  on("vector", fetchCurve);
  // It may have been started anew, with the curve that was missing.
  on("back", () => state.curve || fetchCurve());
  on("view", () => state.view === "dose" && redraw());
}

async function fetchCurve() {
  state.curve = null;
  complain($("dose-error"), null);
  const name = state.vector;
  try {
    const report = name ? await curve(name) : null;
    // Another vector was chosen or a file was opened meanwhile.
    if (name !== state.vector || state.curve) return;
    if (report) accept(report, "the server");
  } catch (error) {
    if (name !== state.vector) return;
    complain($("dose-error"), error);
  }
  emit("curve");
  redraw();
}

async function read(file) {
  complain($("dose-error"), null);
  try {
    accept(JSON.parse(await file.text()), file.name);
  } catch (error) {
    const why = error instanceof SyntaxError ? "it is not JSON" : error.message;
    complain($("dose-error"), `${file.name} was not read: ${why}. Give a file that bipo eval --json wrote.`);
  }
  $("curve-file").value = "";
  emit("curve");
  redraw();
}

function accept(report, from) {
  const rows = Array.isArray(report?.rows) ? report.rows : [];
  const measured = rows.filter((row) => Number.isFinite(row?.magnitude) && row.measures && typeof row.subject === "string");
  if (!measured.length) throw new Error("it has no rows with a magnitude and measures");
  state.curve = { report: { ...report, rows: measured }, from };
  state.point = measured.some(({ magnitude }) => magnitude === state.point) ? state.point : null;
}

function redraw() {
  const has = !!state.curve;
  $("no-curve").hidden = has;
  $("curve").hidden = !has;
  $("eval-command").textContent = evalCommand();
  if (!has || state.view !== "dose") return;
  const { report, from } = state.curve;
  const rows = subjectRows();
  const names = [...new Set(report.rows.flatMap(({ measures }) => Object.keys(measures)))];
  const effects = names.filter((name) => !NO_EFFECT.includes(name) && !name.endsWith("fired"));
  const select = $("effect");
  if (select.dataset.names !== effects.join()) {
    select.replaceChildren(...effects.map((name) => h("option", { value: name }, TITLES[name] ?? name)));
    select.dataset.names = effects.join();
  }
  const shown = [...effects.filter((name) => name === select.value), ...DAMAGE.filter((name) => names.includes(name))];
  const subjects = [...new Set(report.rows.map(({ subject }) => subject))];
  draw($("chart"), {
    panels: shown.map((name) => panel(report.rows, subjects, name)),
    xs: rows.map(({ magnitude }) => magnitude),
    limits: limits(),
    selected: state.point,
    describe: (x) => describe(rows, x, shown),
    onPoint: (x) => ($("readout").textContent = describe(rows, x, shown)),
    onPick: choose,
  });
  $("legend").replaceChildren(
    ...(subjects.length > 1 ? subjects.map((name, i) => h(`span.key.hue${i % 4}`, {}, name)) : []),
  );
  $("readout").textContent = describe(rows, state.point ?? rows.at(-1).magnitude, shown);
  const pairs = report.settings?.dataset;
  const of = pairs ? `, ${pairs.pairs} held-out pairs of ${pairs.name}` : "";
  const why = limits().why && ` Hatched: damage is likely (${limits().why}).`;
  $("curve-of").textContent = `From ${from}${of}. Shaded bands are 95 % intervals.${why}`;
  table(rows, names);
}

function panel(rows, subjects, name) {
  const factor = SHARES.test(name) ? 100 : 1;
  const point = ({ magnitude, measures: { [name]: measure } }) => ({
    x: magnitude,
    y: factor * measure.value,
    low: factor * measure.low,
    high: factor * measure.high,
  });
  const series = subjects.map((subject) => {
    const own = rows.filter((row) => (row.subject === subject || row.magnitude === 0) && row.measures[name]);
    return { points: own.sort((a, b) => a.magnitude - b.magnitude).map(point) };
  });
  return { label: TITLES[name] ?? name, log: name === "perplexity", unit: factor === 100 ? " %" : "", series };
}

const number = (name, x) => (SHARES.test(name) ? `${fixed(100 * x, 0)} %` : fixed(x, 2, name === "margin"));

function describe(rows, x, names) {
  const { measures } = rows.find(({ magnitude }) => magnitude === x) ?? {};
  if (!measures) return "";
  const parts = ["dose", ...names].filter((name) => measures[name]);
  return `At ${signed(x)}: ${parts.map((name) => `${(TITLES[name] ?? name).split(",")[0]} ${number(name, measures[name].value)}`).join(", ")}`;
}

function table(rows, names) {
  const titles = names.map((name) => h("th", { scope: "col" }, (TITLES[name] ?? name.replaceAll("_", " ")).split(",")[0]));
  const line = ({ magnitude, measures }) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, signed(magnitude)),
      names.map((name) => h("td", {}, number(name, measures[name]?.value))),
    );
  $("curve-table").replaceChildren(
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "magnitude"), titles)),
    h("tbody", {}, rows.map(line)),
  );
}

/** The view Compare shows the texts at a magnitude. */
function choose(x) {
  state.point = x;
  emit("point");
}

function evalCommand() {
  const name = state.vector || "cheerful";
  const pairs = BUNDLED.includes(name) ? `${name}-heldout` : "held-out.csv";
  const model = quote(state.model || "smollm2");
  const range = isTakenOut() ? "--operation ablate --magnitudes=0..1:0.25" : "--magnitudes=-2..2:0.5";
  const files = [`${name}.safetensors`, `${name}.json`].map(quote);
  return `bipo eval --model ${model} --vector ${files[0]} --dataset ${pairs} ${range} --json > ${files[1]}`;
}
