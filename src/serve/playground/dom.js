// Elements, numbers, arguments of commands and the clipboard: what every view needs of the page.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** Makes an element: `h("p.note", { title: "…" }, "text", child)`. A function is a listener, null leaves an attribute out. */
export const h = (name, attributes, ...children) => {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElement(tag), { class: classes.join(" ") || null, ...attributes }, children);
};

/** Makes an element of a drawing. */
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A number with a real minus sign. */
export const minus = (text) => String(text).replace(/^-/, "−");

/** A magnitude: +2, −0.5, 0. */
export const signed = (x) => (x > 0 ? "+" : "") + minus(Number(x.toFixed(4)));

/** A value with so many digits behind the point, with its sign if `sign` says so; a dash where there is none. */
export const fixed = (x, digits = 2, sign = false) =>
  Number.isFinite(x) ? (sign && x > 0 ? "+" : "") + minus(x.toFixed(digits)).replace(/^−(0\.?0*)$/, "$1") : "–";

/** The scores at which a condition fires: > 0.0513. */
export const rule = ({ comparison, threshold }) => `${comparison} ${fixed(threshold, 4)}`;

export const percent = (share) => `${Math.round(100 * share)} %`;

/** A magnitude as a reader types it, with either minus; NaN if it is none. */
export const parseMagnitude = (text) => {
  const plain = text.trim().replace("−", "-").replace(",", ".");
  return /^[+-]?(\d+\.?\d*|\.\d+)$/.test(plain) ? Number(plain) : NaN;
};

/** An argument as a POSIX shell reads it. */
export const quote = (text) => (/^[\w.\/:,+@%=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** Class and strength by which a magnitude is coloured: blue below 0, orange above, strongest at `largest`. */
export function colour(element, x, largest) {
  element.classList.toggle("negative", x < 0);
  element.classList.toggle("positive", x > 0);
  element.style.setProperty("--strength", `${Math.round(100 * Math.min(1, Math.abs(x) / (largest || 1)))}%`);
}

/** Shows one clear line where an error arose, or clears it. */
export function complain(place, error) {
  place.textContent = error ? (error.message ?? String(error)) : "";
  place.hidden = !error;
}

/** A button that copies what `text` returns, and says so. */
export function copyButton(text, label = "Copy") {
  const button = h("button.small", { type: "button" }, label);
  button.addEventListener("click", async () => {
    // Pages that came over plain http from another machine have no clipboard.
    const copied = await navigator.clipboard?.writeText(text()).then(() => true, () => false);
    button.textContent = copied ? "Copied" : "Select it and copy";
    setTimeout(() => (button.textContent = label), 1600);
  });
  return button;
}

/** Moves the focus of a group by the arrow keys, Home and End; only one element of the group is a stop of the Tab key. */
export function rove(group, elements, key, go) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
  const at = elements.indexOf(group.contains(document.activeElement) ? document.activeElement : elements[0]);
  const to = key === "Home" ? 0 : key === "End" ? elements.length - 1 : step ? at + step : NaN;
  const next = elements.at(to % elements.length);
  if (Number.isNaN(to) || !next) return false;
  elements.forEach((element) => element.setAttribute("tabindex", element === next ? 0 : -1));
  next.focus();
  go?.(next);
  return true;
}
