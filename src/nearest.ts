/**
 * Suggests a name in place of one that is wrong.
 *
 * @module
 */

/** Most names that a suggestion lists where none is close. */
const MAX_LISTED = 12;

/** Returns the name that is closest to what was written, or nothing if none is within some edits. */
export function nearest(
  written: string,
  names: readonly string[],
  limit = Math.max(3, plain(written).length / 2 + 1), // that many edits make another word
): string {
  const given = plain(written).slice(0, 100);
  let best = "";
  let least = limit;
  for (const name of names) {
    const right = plain(name);
    const isStart = given.length >= 4 && right.startsWith(given);
    if (!isStart && Math.abs(given.length - right.length) >= least) continue; // at least that many edits
    const edits = isStart ? 0 : distance(given, right);
    if (edits < least) [best, least] = [name, edits];
  }
  return best;
}

function plain(name: string): string {
  return name.replaceAll(/[_-]/g, "").toLowerCase();
}

/** Returns the sentence that suggests the nearest name, or lists the names where they are few; else nothing. */
export function suggest(written: string, names: readonly string[]): string {
  const hint = nearest(written, names);
  if (hint) return ` Did you mean "${hint}"?`;
  return names.length > 0 && names.length <= MAX_LISTED ? ` Use one of ${names.join(", ")}.` : "";
}

/** Counts the edits between two words (Levenshtein). Here and not from npm: it is loaded at each start. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min(next[j] + 1, row[j + 1] + 1, row[j] + (a[i] === b[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}
