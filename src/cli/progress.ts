import { formatCount, redraw } from "./output.ts";

const REDRAW_MS = 200;

/** Progress on the terminal of stderr: records, rate and time left. Shows nothing elsewhere. */
export class ProgressLine implements Disposable {
  readonly #isShown = Deno.stderr.isTerminal();
  readonly #start = performance.now();
  #drawn = 0;

  /** Shows the records so far, and the time left if the share of the work is known. */
  show(records: number, share?: number): void {
    const now = performance.now();
    if (!this.#isShown || now - this.#drawn < REDRAW_MS) return;
    this.#drawn = now;
    redraw(progressText({ records, share, elapsedMs: now - this.#start }));
  }

  [Symbol.dispose](): void {
    if (this.#drawn > 0) redraw("");
  }
}

/** Text of a {@linkcode ProgressLine}. */
export function progressText(
  { records, share, elapsedMs }: { records: number; share?: number; elapsedMs: number },
): string {
  const rate = formatCount(Math.round(records / elapsedMs * 1_000));
  const text = `${formatCount(records)} records, ${rate} a second`;
  if (share === undefined || share <= 0) return text;
  const left = Math.ceil(elapsedMs * (1 / Math.min(1, share) - 1) / 1_000);
  return `${text}, ${Math.floor(100 * Math.min(1, share))} %, ${left} s left`;
}
