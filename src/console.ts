/** Methods of the console that print to stdout. */
const TO_STDOUT = [
  "log",
  "info",
  "debug",
  "dir",
  "dirxml",
  "table",
  "group",
  "groupCollapsed",
  "count",
  "timeLog",
  "timeEnd",
] as const;

/**
 * Sends what dependencies print to stderr, for the rest of the process or thread: `@db/sqlite` prints the URL from which
 * it downloads its library. Results are written to stdout by other means.
 */
export function sendConsoleToStderr(): void {
  for (const name of TO_STDOUT) console[name] = (...values: unknown[]) => console.error(...values);
}
