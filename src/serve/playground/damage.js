// Where a vector begins to damage the model's texts: what its calibration says, else the curve, else where the dose passes a half.

import { chosenVector, isTakenOut, state } from "./state.js";
import { fixed } from "./dom.js";

const MOST_DOSE = 0.5;
/** Perplexity over that at magnitude 0. */
const MOST_PERPLEXITY = 1.25;

/** The lowest and highest magnitude without damage, whether that was measured, and how it is known; ends are infinite where nothing
 * is known. */
export function limits() {
  if (isTakenOut()) return { negative: -Infinity, positive: Infinity, why: "" };
  const measured = calibrated() ?? fromCurve();
  if (measured) return measured;
  const unit = doseOf(1);
  if (unit) return { negative: -MOST_DOSE / unit, positive: MOST_DOSE / unit, why: `where the dose passes ${MOST_DOSE}` };
  return { negative: -Infinity, positive: Infinity, why: "" };
}

export const isDamage = (magnitude, { negative, positive } = limits()) => magnitude < negative || magnitude > positive;

/** The dose of a magnitude, ‖m·v‖/‖h‖; undefined before an answer or a curve told one. */
export function doseOf(magnitude) {
  const told = state.doses[state.vector];
  if (told) return told * Math.abs(magnitude);
  const row = subjectRows().find((row) => row.magnitude && row.measures.dose);
  return row && row.measures.dose.value * Math.abs(magnitude / row.magnitude);
}

/** A dose as a reader sees it. */
export const doseText = (dose) =>
  Number.isFinite(dose) ? `dose ${fixed(dose, dose > 0 && dose < 0.1 ? 3 : 2)}` : "dose not known yet";

/** The rows of the curve's first subject, the vector, by ascending magnitude. */
export function subjectRows() {
  const rows = state.curve?.report.rows ?? [];
  const ofSubject = rows.filter(
    (row) => Number.isFinite(row.magnitude) && (row.subject === rows[0].subject || row.magnitude === 0),
  );
  return ofSubject.sort((a, b) => a.magnitude - b.magnitude);
}

/** What bipo calibrate found and kept in the vector's file. */
function calibrated() {
  const known = chosenVector()?.calibration;
  if (!known) return null;
  const why = `the largest magnitudes within ${known.budget}, as bipo calibrate found them`;
  return { negative: known.minus ?? -Infinity, positive: known.plus ?? Infinity, measured: true, why };
}

/** Where the perplexity passes what is bearable, on either side of 0, on the line between two points. */
function fromCurve() {
  const points = subjectRows().map(({ magnitude, measures }) => ({ m: magnitude, y: measures.perplexity?.value }));
  const most = MOST_PERPLEXITY * points.find(({ m }) => m === 0)?.y;
  const crossing = (points) => {
    const at = points.findIndex(({ y }) => y > most);
    if (at < 1) return null;
    const [from, to] = [points[at - 1], points[at]];
    return from.m + ((most - from.y) / (to.y - from.y)) * (to.m - from.m);
  };
  const positive = crossing(points.filter(({ m }) => m >= 0));
  const negative = crossing(points.filter(({ m }) => m <= 0).reverse());
  if (positive === null && negative === null) return null;
  const why = "where the perplexity of ordinary text is a quarter higher than at 0";
  return { negative: negative ?? -Infinity, positive: positive ?? Infinity, measured: true, why };
}
