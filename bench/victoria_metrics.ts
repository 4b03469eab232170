import type { SystemMetricsInput } from "../mod.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import type { Places } from "./fixtures.ts";
import { program } from "./peers.ts";
import { csvLine } from "./records.ts";
import { type Listener, victoriaMetrics } from "./rows/receive.ts";

/** Characters of CSV that a request has, about. */
const REQUEST_CHARACTERS = 4_000_000;

/** The columns of a line: texts are labels, numbers are metrics. VictoriaMetrics has no type for maps. */
function formatOf(metrics: readonly string[] | undefined): string {
  return systemMetrics.columns.flatMap(({ name, type }, i) => {
    if (type === "map") return [];
    if (type === "timestamp") return `${i + 1}:time:unix_ms`;
    if (type === "text") return `${i + 1}:label:${name}`;
    return metrics?.includes(name) ?? true ? `${i + 1}:metric:${name}` : [];
  }).join(",");
}

/** VictoriaMetrics with an empty folder, until it is disposed. */
export class VictoriaMetrics implements AsyncDisposable {
  readonly #listener: Listener;
  readonly #folder: string;
  readonly #origin: string;

  /**
   * Starts it.
   *
   * @throws {Missing} If this machine has none.
   */
  static async start(places: Places): Promise<VictoriaMetrics> {
    const { path } = await program("victoria-metrics");
    const folder = places.path();
    const listener = victoriaMetrics(folder, path);
    return new VictoriaMetrics(listener, folder, new URL(await listener.url).origin);
  }

  private constructor(listener: Listener, folder: string, origin: string) {
    this.#listener = listener;
    this.#folder = folder;
    this.#origin = origin;
  }

  /** Imports records, or some of their metrics, and flushes them to disk. */
  async take(records: AsyncIterable<SystemMetricsInput>, metrics?: readonly string[]): Promise<void> {
    await this.#import(linesOf(records), metrics);
  }

  /** Imports a file that {@linkcode csvLine} wrote, and flushes it to disk. */
  async takeFile(path: string): Promise<void> {
    const file = await Deno.open(path);
    await this.#import(file.readable.pipeThrough(new TextDecoderStream()));
  }

  /** Merges the files, which otherwise takes hours in the background, and returns their bytes. */
  async bytes(): Promise<number> {
    await this.get("/internal/force_merge");
    const isMerging = async () => !/^vm_active_force_merges 0$/m.test(await this.get("/metrics"));
    while (await isMerging()) await new Promise((resolve) => setTimeout(resolve, 100));
    await this.get("/internal/force_flush");
    return bytesIn(this.#folder);
  }

  /** Sends a GET request; returns the text of the answer. */
  async get(path: string): Promise<string> {
    return await textOf(await fetch(this.#origin + path));
  }

  /** Sends lines in requests of whole lines, one after the other. */
  async #import(pieces: AsyncIterable<string>, metrics?: readonly string[]): Promise<void> {
    let text = "";
    const url = `${this.#origin}/api/v1/import/csv?format=${formatOf(metrics)}`;
    const send = async (body: string) => {
      if (body !== "") await textOf(await fetch(url, { method: "POST", body }));
    };
    for await (const piece of pieces) {
      text += piece;
      if (text.length < REQUEST_CHARACTERS) continue;
      const end = text.lastIndexOf("\n") + 1;
      await send(text.slice(0, end));
      text = text.slice(end);
    }
    await send(text);
    await this.get("/internal/force_flush");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener[Symbol.asyncDispose]();
  }
}

async function* linesOf(records: AsyncIterable<SystemMetricsInput>): AsyncGenerator<string> {
  for await (const record of records) {
    yield csvLine(systemMetrics.columns, record as unknown as Record<string, unknown>);
  }
}

async function textOf(response: Response): Promise<string> {
  const text = await response.text();
  if (!response.ok) throw new Error(`VictoriaMetrics answered ${response.status}: ${text}`);
  return text;
}

function bytesIn(folder: string): number {
  let bytes = 0;
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    bytes += isDirectory ? bytesIn(path) : Deno.statSync(path).size;
  }
  return bytes;
}
