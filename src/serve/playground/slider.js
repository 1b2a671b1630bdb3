// The slider of a magnitude: blue below 0, orange above, hatched where damage is likely, with a field for any number beside it.

import { isDamage, doseOf, doseText, limits } from "./damage.js";
import { colour, h, parseMagnitude, percent, signed } from "./dom.js";
import { isTakenOut, state } from "./state.js";

/** Half the width of a slider's thumb, by which its ends stay inside the track. */
const THUMB = 9;

/** How far sliders reach: past where damage begins, and as far as any magnitude that is set. */
export function reach() {
  const { negative, positive, measured } = limits();
  // A limit of the dose alone can be far beyond any magnitude of use.
  const known = [negative, positive]
    .filter((limit) => measured && Number.isFinite(limit))
    .map((limit) => 1.5 * Math.abs(limit));
  return Math.ceil(
    Math.max(isTakenOut() ? 2 : known.length ? 1 : 4, ...known, ...state.magnitudes.map(Math.abs), Math.abs(state.score.magnitude)),
  );
}

/** What a magnitude means where the vector is taken out. */
const shareText = (value) => (value < 0 ? `adds ${percent(-value)} of what is there` : `takes out ${percent(value)} of what is there`);

export class Slider {
  /** `onInput` is told each magnitude while it moves, `onChange` the one that it was left at. */
  constructor(magnitude, name, onInput, onChange) {
    this.value = magnitude;
    const read = (told) => () => {
      this.value = Number(this.range.value);
      this.draw();
      told(this.value);
    };
    this.range = h("input", { type: "range", "aria-label": name, input: read(onInput), change: read(onChange) });
    this.field = h("input.magnitude", {
      type: "text",
      inputmode: "decimal",
      size: 5,
      autocomplete: "off",
      "aria-label": `${name}, as a number`,
      change: () => {
        const typed = parseMagnitude(this.field.value);
        this.value = Number.isNaN(typed) ? this.value : typed;
        this.draw();
        onChange(this.value);
      },
    });
    this.dose = h("p.dose");
    this.draw();
  }

  /** Draws value, dose and where damage begins; to be called again when the vector or what is known of it changes. */
  draw() {
    const { range, field, dose, value } = this;
    const most = Math.max(reach(), Math.ceil(Math.abs(value)));
    range.min = -most;
    range.max = most;
    range.step = 10 ** (Math.floor(Math.log10(most / 2)) - 1);
    range.value = value;
    field.value = signed(value);
    const ends = limits();
    const place = (x) => {
      const share = (Math.max(-most, Math.min(most, x)) + most) / (2 * most);
      return `calc(${THUMB}px + ${share} * (100% - ${2 * THUMB}px))`;
    };
    range.style.setProperty("--low", Number.isFinite(ends.negative) ? place(ends.negative) : "0%");
    range.style.setProperty("--high", Number.isFinite(ends.positive) ? place(ends.positive) : "100%");
    const damage = isDamage(value, ends);
    const text = isTakenOut() ? shareText(value) : doseText(doseOf(value)) + (damage ? ", damage likely" : "");
    dose.textContent = damage ? `⚠ ${text}` : text;
    const edges = [ends.negative, ends.positive].filter(Number.isFinite).map(signed);
    dose.title = ends.why && `Damage begins at ${edges.join(" and ")}: ${ends.why}`;
    dose.classList.toggle("damage", damage);
    range.setAttribute("aria-valuetext", `${signed(value)}, ${text}`);
    colour(field, value, most);
  }
}
