/**
 * Writes requests of Prometheus remote write, by the numbers of the fields in Prometheus' own files. It shares nothing
 * with the readers.
 *
 * @module
 */
import { PbfWriter } from "pbf";

/** A series: its labels, and value, time and start of each sample. */
export interface SeriesInput {
  readonly labels: Readonly<Record<string, string>>;
  readonly samples: readonly (readonly [value: number | "stale", time: number, start?: number])[];
  /** Number of native histograms. */
  readonly histograms?: number;
}

/** Writes a request. */
export function writeRemote(
  version: 1 | 2,
  series: readonly SeriesInput[],
  { symbolsLast = false }: { symbolsLast?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const writer = new PbfWriter();
  const symbols = ["", ...new Set(series.flatMap(({ labels }) => Object.entries(labels).flat()))];
  const writeSymbols = () => {
    for (const symbol of version === 2 ? symbols : []) writer.writeStringField(4, symbol);
  };
  if (!symbolsLast) writeSymbols();
  for (const { labels, samples, histograms = 0 } of series) {
    writer.writeMessage(version === 1 ? 1 : 5, (_, inner) => {
      const pairs = Object.entries(labels);
      if (version === 2) inner.writePackedVarint(1, pairs.flat().map((text) => symbols.indexOf(text)));
      else for (const pair of pairs) inner.writeMessage(1, writeLabel, pair);
      for (const sample of samples) inner.writeMessage(2, writeSample, sample);
      for (let i = 0; i < histograms; i++) {
        inner.writeMessage(
          version === 1 ? 4 : 3,
          (_, histogram) => histogram.writeVarintField(15, i),
          undefined,
        );
      }
    }, undefined);
  }
  if (symbolsLast) writeSymbols();
  return writer.finish().slice() as Uint8Array<ArrayBuffer>;
}

function writeLabel([name, value]: readonly [string, string], writer: PbfWriter): void {
  writer.writeStringField(1, name);
  writer.writeStringField(2, value);
}

function writeSample([value, time, start]: SeriesInput["samples"][number], writer: PbfWriter): void {
  if (value === "stale") {
    writer.writeTag(1, 1);
    writer.writeFixed32(2);
    writer.writeFixed32(0x7ff00000);
  } else writer.writeDoubleField(1, value);
  writer.writeVarintField(2, time);
  if (start !== undefined) writer.writeVarintField(3, start);
}
