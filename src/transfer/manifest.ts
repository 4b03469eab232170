/** The note about a manifest. */
export const MANIFEST_SKIPPED = "skipped: a manifest lists the files of a delivery and has no rows";

/** True for the name of a file that lists the parts of a delivery. */
export function isManifest(name: string): boolean {
  return /(^|[-_/\\])manifest\.json$/i.test(name);
}
