// An answer beside others: its text as it streams, marked where it differs from the one at magnitude 0, and what is known of it.

import { sweep } from "./api.js";
import { doseText } from "./damage.js";
import { h, percent, signed } from "./dom.js";
import { emit, isTakenOut, state } from "./state.js";
import { differing, repetition, words } from "./words.js";

/** A text of which so much repeats what was said before is called broken. */
const MOST_REPETITION = 0.25;

const ENDS = {
  stop: "ended by itself",
  length: "cut at the limit",
  not_finite: "broke down: the numbers are not finite",
  stopped: "stopped",
};

const counted = (tokens) => `${tokens} token${tokens === 1 ? "" : "s"}`;

export class Answer {
  constructor(magnitude) {
    this.text = "";
    this.magnitude = magnitude;
    this.body = h("div.text", { dir: "auto" });
    this.note = h("p.note");
  }

  /** Empties the answer for a new one. */
  start(magnitude, { vector, when }) {
    Object.assign(this, { text: "", magnitude, vector, when, verdict: null, end: null, tokens: 0, dose: NaN, busy: true });
  }

  finish({ finish_reason, dose, tokens, when }) {
    Object.assign(this, { end: finish_reason, dose, tokens: tokens ?? this.tokens, verdict: when ?? null, busy: false });
  }

  /** Draws the text, its marks beside `base`'s text, and the note. */
  draw(base) {
    let all = words(this.text);
    let differs = [];
    if (base && base !== this && base.text && this.text) {
      const other = words(base.text);
      // Of two unfinished texts only what both have can be compared.
      const count = this.busy || base.busy ? Math.min(all.length, other.length) : Infinity;
      differs = differing(other.slice(0, count), all.slice(0, count));
    }
    this.body.replaceChildren(...marked(all, differs));
    if (this.busy) this.body.append(h("span.caret", { "aria-hidden": "true" }));
    const isLeft = this.magnitude !== 0 && this.verdict?.fired === false;
    const parts = [
      this.tokens && counted(this.tokens),
      ENDS[this.end] ?? this.end,
      Number.isFinite(this.dose) && this.magnitude !== 0 && !isTakenOut() && !isLeft && doseText(this.dose),
      isLeft && "not steered: the condition did not fire",
      !this.busy && differs.length && `${percent(differs.filter(Boolean).length / differs.length)} of words differ from 0`,
    ];
    const repeated = this.busy ? 0 : repetition(this.text);
    const broken = repeated > MOST_REPETITION && h("strong.damage", {}, `⚠ repeats itself: ${percent(repeated)} `);
    this.note.replaceChildren(...[broken, parts.filter(Boolean).join(" · ")].filter(Boolean));
  }
}

/** Text nodes and marks: words that differ, side by side, are one mark. */
function marked(all, differs) {
  const nodes = [];
  for (let i = 0; i < all.length;) {
    const start = i;
    while (i < all.length && !!differs[i] === !!differs[start]) i++;
    const run = all.slice(start, i).join("");
    if (!differs[start]) {
      nodes.push(run);
      continue;
    }
    const end = run.trimEnd().length;
    nodes.push(h("mark", {}, run.slice(0, end)), run.slice(end));
  }
  return nodes;
}

/** Streams the answers to a conversation, each at its magnitude, and draws those that changed, or whose base did, as they come. */
export async function answerAll(body, answers, magnitudes, signal) {
  const { vector } = state;
  const base = answers[magnitudes.indexOf(0)];
  const changed = new Set(answers);
  answers.forEach((answer, i) => answer.start(magnitudes[i], state));
  let timer = 0;
  let cost_ms = 0;
  const draw = () => {
    const begun = performance.now();
    for (const answer of changed.has(base) ? answers : changed) answer.draw(base);
    changed.clear();
    cost_ms = performance.now() - begun;
    timer = 0;
  };
  draw();
  try {
    for await (const event of sweep({ ...body, magnitudes }, signal)) {
      const answer = answers[event.index];
      if (!answer) continue;
      changed.add(answer);
      if (event.delta) answer.text += event.delta;
      if (event.finish_reason) {
        answer.finish(event);
        if (event.dose && answer.magnitude) state.doses[vector] = event.dose / Math.abs(answer.magnitude);
      }
      // Long texts, which take long to compare, are drawn less often.
      timer ||= setTimeout(draw, 30 + 4 * cost_ms);
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    clearTimeout(timer);
    for (const answer of answers.filter(({ busy }) => busy)) {
      answer.finish({ finish_reason: "stopped" });
      changed.add(answer);
    }
    draw();
    emit("dose");
  }
}

/** One sentence for a screen reader when all is done. */
export const spoken = (answers) =>
  answers
    .map(({ magnitude, tokens, end }) => `${signed(magnitude)}: ${tokens ? `${counted(tokens)}, ` : ""}${ENDS[end] ?? end}`)
    .join("; ");
