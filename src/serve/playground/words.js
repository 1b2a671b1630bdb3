// Words of a text: which of them another text does not have, and how many repeat what was said before.

/** Words, each with the white space behind it. */
export const words = (text) => text.match(/\s*\S+\s*/g) ?? [];

/** Of each word of `text`, whether it differs from `base`: it is in no longest common subsequence of the two. A single common
 * word between two that differ counts as one that differs, so that phrases are marked and not every other word. */
export function differing(base, text) {
  const [a, b] = [base, text].map((list) => list.map((word) => word.trim()));
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  const [rows, columns] = [a.length - start, b.length - start];
  // lengths[i][j]: length of the longest common subsequence of what follows a[start + i] and b[start + j].
  const lengths = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      const same = a[start + i] === b[start + j];
      lengths[i][j] = same ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const differs = new Array(b.length).fill(true).fill(false, 0, start);
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (a[start + i] === b[start + j]) [differs[start + j], i, j] = [false, i + 1, j + 1];
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i++;
    else j++;
  }
  return differs.map((differs, j, all) => differs || (j > 0 && j + 1 < all.length && all[j - 1] && all[j + 1]));
}

/** The share of a text's runs of four words that occur earlier in it. */
export function repetition(text) {
  const all = words(text).map((word) => word.trim());
  const runs = all.slice(3).map((_, i) => all.slice(i, i + 4).join(" "));
  return runs.length ? 1 - new Set(runs).size / runs.length : 0;
}
