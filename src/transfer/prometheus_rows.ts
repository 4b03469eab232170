import type { DatasetName } from "../records/dataset.ts";
import type { MetricField } from "./metric_mapping.ts";
import { METRIC_FIELDS } from "./metric_names.ts";
import { parseSamples, type Sample } from "./prometheus.ts";
import type { FileRow } from "./rows.ts";
import { SampleMapper } from "./samples_to_records.ts";
import { TransferError } from "./transfer_error.ts";

/** The most characters of a file: a record needs all of them, as its series stand apart. */
const MAX_CHARACTERS = 64 * 2 ** 20;
/** Names of metrics that a note lists. */
const SHOWN_NAMES = 20;

/** Result of reading a file of samples. */
interface SampleOptions {
  readonly dataset: DatasetName;
  /** Time of samples that have none, in epoch ms. */
  readonly at?: number;
  /** Constants of all records. They tell the usage of one server from that of another. */
  readonly set?: Readonly<Record<string, string>>;
  readonly onNote?: (note: string) => void;
}

/** Reads a file of Prometheus or OpenMetrics text as rows that are records of a dataset. */
export function readPrometheusRows(
  bytes: ReadableStream<Uint8Array>,
  options: SampleOptions,
): ReadableStream<readonly FileRow[]> {
  return ReadableStream.from((async function* () {
    yield toRows(await readText(bytes), options);
  })());
}

async function readText(bytes: ReadableStream<Uint8Array>): Promise<string> {
  const pieces: string[] = [];
  let length = 0;
  for await (
    const piece of bytes.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
  ) {
    length += piece.length;
    if (length > MAX_CHARACTERS) {
      throw new TransferError(
        `the file has more than ${MAX_CHARACTERS / 2 ** 20} MiB of samples. Split it into one file a scrape.`,
        { code: "INVALID_FILE" },
      );
    }
    pieces.push(piece);
  }
  return pieces.join("");
}

function toRows(text: string, { dataset, at = Date.now(), set = {}, onNote }: SampleOptions): FileRow[] {
  const { samples, badLines } = parseSamples(text);
  const rows: FileRow[] = badLines.map((badLine) => ({ ...badLine, values: [] }));
  const fields = METRIC_FIELDS.filter((field) => field.dataset === dataset);
  const mapper = new SampleMapper({ target: JSON.stringify(["file", Object.entries(set).sort()]), fields });
  const { records, unmapped } = mapper.map(samples, at);
  for (const { record } of records) rows.push({ line: 1, text: JSON.stringify(record), values: record });
  noteNames(onNote, `no field of ${dataset} takes`, unmapped);
  noteNames(onNote, "left out are counters, which need two scrapes:", countersOnce(samples, fields));
  return rows;
}

/** The counters that a file has at one time only, with the number of their series. */
function countersOnce(samples: readonly Sample[], fields: readonly MetricField[]): Map<string, number> {
  const terms = fields.flatMap((field) => field.over ? [field, field.over] : [field]);
  const counters = new Set(terms.filter(({ counter }) => counter).flatMap(({ metrics }) => metrics));
  const byName = Map.groupBy(samples.filter(({ name }) => counters.has(name)), ({ name }) => name);
  return new Map(
    [...byName].filter(([, series]) => new Set(series.map(({ timestamp }) => timestamp)).size < 2)
      .map(([name, series]) => [name, series.length]),
  );
}

/** Tells of metrics that became nothing: their names, and the number of series of each. */
function noteNames(
  onNote: SampleOptions["onNote"],
  what: string,
  counts: ReadonlyMap<string, number>,
): void {
  if (counts.size === 0) return;
  const names = [...counts].map(([name, count]) => `${name} (${count})`);
  const more = names.length > SHOWN_NAMES ? ` and ${names.length - SHOWN_NAMES} more` : "";
  onNote?.(`${what} ${names.slice(0, SHOWN_NAMES).join(", ")}${more}`);
}
