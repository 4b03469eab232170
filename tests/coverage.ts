/**
 * The table of line and branch coverage by folder of `src/`, from the profiles of a run of tests.
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";

/** Covered and all lines and branches. */
type Counts = Record<"LH" | "LF" | "BRH" | "BRF", number>;

const SOURCE = fromFileUrl(new URL("../src/", import.meta.url));

/** Adds up an LCOV report by folder: `src/pipeline/retry.ts` counts for `src/pipeline` and for `src`. */
function countByFolder(report: string): Map<string, Counts> {
  const folders = new Map<string, Counts>();
  for (const [, path, lines] of report.matchAll(/^SF:(.*)\n([^]*?)^end_of_record$/gm)) {
    const parts = `src/${path.slice(SOURCE.length)}`.replaceAll("\\", "/").split("/").slice(0, -1);
    for (let length = 1; length <= parts.length; length++) {
      const folder = parts.slice(0, length).join("/");
      const counts = folders.get(folder) ?? { LH: 0, LF: 0, BRH: 0, BRF: 0 };
      for (const [, name, count] of lines.matchAll(/^(LH|LF|BRH|BRF):(\d+)$/gm)) {
        counts[name as keyof Counts] += Number(count);
      }
      folders.set(folder, counts);
    }
  }
  return folders;
}

function percentage(hit: number, found: number): string {
  return `${(found === 0 ? 100 : 100 * hit / found).toFixed(1)} %`.padStart(8);
}

/** Returns the table for the profiles in a folder. A folder includes those below it. */
export async function coverageTable(profiles: string): Promise<string> {
  const path = `${profiles}/report.lcov`;
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["coverage", "-q", "--lcov", `--output=${path}`, `--include=^file://.*/src/`, profiles],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const rows = [...countByFolder(Deno.readTextFileSync(path))].sort(([a], [b]) => a < b ? -1 : 1);
  const width = Math.max(...rows.map(([folder]) => folder.length));
  return [
    `${"folder".padEnd(width)}  ${"lines".padStart(8)}  ${"branches".padStart(8)}`,
    ...rows.map(([folder, { LH, LF, BRH, BRF }]) =>
      `${folder.padEnd(width)}  ${percentage(LH, LF)}  ${percentage(BRH, BRF)}`
    ),
  ].join("\n");
}
