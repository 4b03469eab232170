import { distance } from "fastest-levenshtein";

/** Returns the name that is closest to what was written, or nothing if none is close. */
export function nearest(written: string, names: readonly string[]): string {
  const plain = (name: string) => name.replaceAll(/[_-]/g, "").toLowerCase();
  let best = "";
  let least = Math.max(3, written.length / 2 + 1); // more edits than that are another word
  for (const name of names) {
    const edits = distance(plain(written), plain(name));
    if (edits < least) [best, least] = [name, edits];
  }
  return best;
}
