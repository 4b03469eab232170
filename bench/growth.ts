import { Missing } from "./peers.ts";
import type { Places } from "./fixtures.ts";
import { median } from "./row.ts";
import { type Ingest, intoMemory, intoServer, intoSqlite } from "./rows/ingest.ts";

/** The most records, and the parts of them that are measured: 10⁴ to 10⁷. */
const GROWTH_RECORDS = 10_000_000;
const PARTS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1];
/** More than that is measured once; all else three times, of which the middle counts. */
const ONCE_FROM = 3_000_000;
const ROUNDS = 3;
/** The same for all: a process that is still warming up would bend the line at its beginning. */
const WARM_UP_RECORDS = 100_000;

/** A backend whose growth is measured. */
export interface Growth {
  readonly name: string;
  /** Label in the plot. */
  readonly title: string;
  into(places: Places): Ingest;
}

/** Growth of time with the number of records. */
export interface GrowthResult {
  readonly name: string;
  /** Missing program; no other field is set then. */
  readonly missing?: string;
  readonly points?: readonly { readonly records: number; readonly seconds: number }[];
  /** The power of the records that time goes with; 1 is a straight line. */
  readonly power?: number;
  readonly took?: number;
}

/** Measured ingests. */
export const GROWTHS: readonly Growth[] = [
  { name: "growth-memory", title: "memory", into: () => intoMemory("system_metrics") },
  { name: "growth-sqlite", title: "SQLite", into: (places) => intoSqlite(places, "system_metrics") },
  {
    name: "growth-postgresql",
    title: "PostgreSQL",
    into: (places) => intoServer(places, "system_metrics", { server: "postgresql" }),
  },
  {
    name: "growth-timescaledb",
    title: "TimescaleDB",
    into: (places) =>
      intoServer(places, "system_metrics", { server: "timescaledb", enableCompression: true }),
  },
];

/** Measures one of them. */
export async function measureGrowth(
  { name, into }: Growth,
  places: Places,
  most = GROWTH_RECORDS,
): Promise<GrowthResult> {
  const start = performance.now();
  try {
    const ingest = into(places);
    const points = [];
    for (const records of PARTS.map((part) => Math.ceil(part * most))) {
      const times: number[] = [];
      for (let round = 0; round < (records < ONCE_FROM ? ROUNDS : 1); round++) {
        times.push(await ingest(records, Math.min(most, WARM_UP_RECORDS)));
      }
      points.push({ records, seconds: median(times) });
    }
    return { name, points, power: powerOf(points), took: (performance.now() - start) / 1_000 };
  } catch (error) {
    if (error instanceof Missing) return { name, missing: error.message };
    throw error;
  }
}

/** The slope of the straight line that lies closest to the points, where both axes are logarithms. */
export function powerOf(points: readonly { records: number; seconds: number }[]): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [x, y] = [points.map((p) => Math.log(p.records)), points.map((p) => Math.log(p.seconds))];
  const [middleX, middleY] = [mean(x), mean(y)];
  return mean(x.map((value, i) => (value - middleX) * (y[i] - middleY))) /
    mean(x.map((value) => (value - middleX) ** 2));
}
