// Panels above one another over one axis of magnitudes, drawn as wide as their place: values with their intervals, where damage
// begins, and a strip over each magnitude that takes pointer and keyboard.

import { minus, rove, signed, svg } from "./dom.js";

const LEFT = 52;
const RIGHT = 12;
const HEIGHT = 132;
const GAP = 30;
/** Room above the first panel, for the word damage. */
const TOP = 40;

/**
 * Draws `panels`, each `{ label, log, unit, series: [{ points: [{ x, y, low, high }] }] }`, into `place`.
 * `describe(x)` says what is at a magnitude, `onPoint(x)` is called when one is pointed at, `onPick(x)` when it is chosen.
 */
export function draw(place, { panels, xs, limits, selected, describe, onPoint, onPick }) {
  const width = Math.max(280, place.clientWidth);
  const height = TOP + panels.length * (HEIGHT + GAP) + 10;
  const span = xs.at(-1) - xs[0] || 1;
  const pad = (0.5 * span) / Math.max(1, xs.length);
  const x = (value) => LEFT + ((value - xs[0] + pad) / (span + 2 * pad)) * (width - LEFT - RIGHT);
  const picture = svg("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "group",
    "aria-label": "Curves over magnitude",
  });
  const [right, bottom] = [width - RIGHT, height - GAP - 10];
  picture.append(hatch(), damage(x, limits, right, bottom));
  panels.forEach((panel, i) => picture.append(...drawPanel(panel, TOP + i * (HEIGHT + GAP), x, right)));
  const room = Math.max(1, Math.ceil(xs.length / ((right - LEFT) / 44)));
  for (const value of xs.filter((_, i) => (i - xs.indexOf(0)) % room === 0)) {
    picture.append(svg("text", { x: x(value), y: bottom + 18, class: "tick middle" }, signed(value)));
  }
  picture.append(svg("text", { x: right, y: height - 5, class: "tick end" }, "magnitude"));
  const strips = xs.map((value, i) => {
    const from = i ? (x(xs[i - 1]) + x(value)) / 2 : LEFT;
    const to = i + 1 < xs.length ? (x(value) + x(xs[i + 1])) / 2 : right;
    const attributes = {
      x: from,
      y: 14,
      width: to - from,
      height: bottom - 14,
      rx: 4,
      role: "button",
      "aria-label": describe(value),
      class: value === selected ? "strip selected" : "strip",
      tabindex: value === (selected ?? 0) ? 0 : -1,
      pointerenter: () => onPoint(value),
      focus: () => onPoint(value),
      click: () => onPick(value),
      keydown: (event) => {
        if (event.key === "Enter" || event.key === " ") onPick(value);
        else if (!rove(picture, strips, event.key)) return;
        event.preventDefault();
      },
    };
    return svg("rect", attributes, svg("title", {}, "Compare here"));
  });
  if (!strips.some((strip) => strip.getAttribute("tabindex") === "0")) strips[0].setAttribute("tabindex", 0);
  picture.append(...strips);
  place.replaceChildren(picture);
}

function hatch() {
  const lines = svg("path", { d: "M0 6 6 0", stroke: "var(--danger)", "stroke-width": 1, opacity: 0.35 });
  return svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, lines));
}

/** The hatched fields where damage is likely, on either side. */
function damage(x, { negative, positive }, right, bottom) {
  const field = (from, to, anchor) => {
    const [low, high] = [from, to].map((edge) => Math.max(LEFT, Math.min(right, edge)));
    const width = high - low;
    const label = { x: anchor === "end" ? high - 4 : low + 4, y: 10, class: `damage-label ${anchor}` };
    return [
      width > 1 && svg("rect", { x: low, y: 14, width, height: bottom - 14, fill: "url(#hatch)" }),
      width > 50 && svg("text", label, "damage"),
    ];
  };
  return svg("g", {}, field(LEFT, x(negative), "start"), field(x(positive), right, "end"));
}

function drawPanel({ label, log, unit, series }, top, x, right) {
  const finite = (points) => points.filter(({ y }) => Number.isFinite(y) && (!log || y > 0));
  const shown = series.map(({ points }) => finite(points));
  const values = shown
    .flatMap((points) => points.flatMap(({ y, low, high }) => [y, low, high]))
    .filter((y) => Number.isFinite(y) && (!log || y > 0));
  const scale = log ? Math.log10 : (y) => y;
  let [low, high] = values.length ? [scale(Math.min(...values)), scale(Math.max(...values))] : [0, 1];
  if (!log) [low, high] = [Math.min(0, low), Math.max(0, high)];
  const margin = 0.06 * (high - low || 1);
  [low, high] = [low - (log || low < 0 ? margin : 0), high + margin];
  const y = (value) => top + HEIGHT - ((scale(value) - low) / (high - low)) * HEIGHT;
  const parts = [svg("text", { x: LEFT, y: top - 8, class: "panel-label" }, label)];
  for (const tick of log ? logTicks(low, high) : ticks(low, high)) {
    const isZero = tick === 0 && !log;
    parts.push(svg("line", { x1: LEFT, x2: right, y1: y(tick), y2: y(tick), class: isZero ? "axis" : "grid" }));
    parts.push(svg("text", { x: LEFT - 8, y: y(tick) + 4, class: "tick end" }, minus(String(tick)) + unit));
  }
  if (x(0) >= LEFT && x(0) <= right)
    parts.push(svg("line", { x1: x(0), x2: x(0), y1: top, y2: top + HEIGHT, class: "axis" }));
  shown.forEach((points, i) => {
    const banded = points.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high) && (!log || low > 0));
    const edge = [...banded.map((p) => [p.x, p.high]), ...banded.toReversed().map((p) => [p.x, p.low])];
    const path = (pairs) => pairs.map(([px, py]) => `${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("L");
    const group = svg("g", { class: `series hue${i % 4}` });
    if (edge.length > 2) group.append(svg("path", { d: `M${path(edge)}Z`, class: "band" }));
    if (points.length) group.append(svg("path", { d: `M${path(points.map((p) => [p.x, p.y]))}`, class: "line" }));
    for (const point of points) group.append(svg("circle", { cx: x(point.x), cy: y(point.y), r: 3.5 }));
    parts.push(group);
  });
  return parts;
}

/** Three to six round numbers from `low` to `high`. */
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const count = Math.floor(high / step) - Math.ceil(low / step) + 1;
  return Array.from({ length: count }, (_, i) => Number(((Math.ceil(low / step) + i) * step).toPrecision(6)));
}

/** Powers of ten; also their round multiples, the more the narrower the range. */
function logTicks(low, high) {
  const factors = high - low > 3 ? [1] : high - low > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i);
  const all = powers.flatMap((power) => factors.map((factor) => Number((factor * 10 ** power).toPrecision(3))));
  return all.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
}
