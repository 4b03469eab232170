/**
 * Labeled daily series, from a file and from a generator, and the score of what is found in them.
 *
 * @module
 */
import type { CostAnomaly } from "../src/records/anomaly.ts";

const DAY = 86_400_000;

/** A day of a series. Without costs it is absent from what is fed. */
export interface LabeledDay {
  readonly day: number;
  readonly series: string;
  readonly shape: string;
  readonly amount: number;
  readonly label: string;
}

/** Days after a change of level, a stop or a beginning in which reports are neutral. */
const NEUTRAL_DAYS = 7;

/** Reads the labeled series of the case. */
export async function readCase(): Promise<LabeledDay[]> {
  const file = await Deno.open(new URL("cases/watch/anomalies.csv.gz", import.meta.url));
  const text = await new Response(file.readable.pipeThrough(new DecompressionStream("gzip"))).text();
  return text.trim().split("\n").slice(1).map((line) => {
    const [day, series, shape, amount, label] = line.trim().split(",");
    return { day: Date.parse(day) / DAY, series, shape, amount: Number(amount), label };
  });
}

/** Precision and recall by shape, and of all. */
export interface Score {
  readonly shape: string;
  readonly labels: number;
  readonly found: number;
  readonly wrong: number;
}

/** Scores anomalies, each with the series as its category, on the days from a first one on. */
export function scoreOf(
  days: readonly LabeledDay[],
  anomalies: readonly CostAnomaly[],
  firstDay: number,
): Score[] {
  const reports = Map.groupBy(anomalies, ({ group }) => group.category ?? "all costs");
  const shapes = new Map<string, { labels: number; found: number; wrong: number }>();
  for (const [series, all] of Map.groupBy(days, ({ series }) => series)) {
    const score = shapes.getOrInsertComputed(all[0].shape, () => ({ labels: 0, found: 0, wrong: 0 }));
    const reported = new Set((reports.get(series) ?? []).map(({ startTime }) => startTime / DAY));
    reports.delete(series);
    const labeled = all.filter(({ label, day }) => label !== "" && day >= firstDay);
    const stops = labeled.filter(({ label }) => label === "stopped").map(({ day }) => day);
    const episodes = labeled.filter(({ label }) => label !== "stopped").map(({ day }) => [day]);
    for (const day of stops) {
      if (stops.includes(day - 1)) episodes.at(-1)!.push(day);
      else episodes.push([day]);
    }
    score.labels += episodes.length;
    score.found += episodes.filter((episode) => episode.some((day) => reported.has(day))).length;
    const neutral = new Set(labeled.flatMap(({ day, label }) => {
      const after = ["shift", "stopped", "new"].includes(label) ? NEUTRAL_DAYS : 0;
      return Array.from({ length: after + 1 }, (_, i) => day + i);
    }));
    score.wrong += [...reported].filter((day) => day >= firstDay && !neutral.has(day)).length;
  }
  const scores = [...shapes].map(([shape, score]) => ({ shape, ...score }));
  for (const [shape, wrong] of reports) scores.push({ shape, labels: 0, found: 0, wrong: wrong.length });
  return scores;
}

/** Adds scores up. Both are 1 where there is nothing to find, and nothing found. */
export function total(scores: readonly Score[]): { precision: number; recall: number } {
  const sum = (of: (score: Score) => number) => scores.reduce((sum, score) => sum + of(score), 0);
  const found = sum((score) => score.found);
  const wrong = sum((score) => score.wrong);
  const labels = sum((score) => score.labels);
  return {
    precision: found + wrong === 0 ? 1 : found / (found + wrong),
    recall: labels === 0 ? 1 : found / labels,
  };
}

/** Random numbers that are the same for the same seed. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6D2B79F5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A shape: the part of the level that a day has without noise, and the spread of the noise. */
interface Shape {
  part(day: number, age: number): number;
  /** A factor, about 1. */
  noise(next: () => number): number;
  /** Anomalies that can be told from a usual day of the shape. Default: all. */
  readonly kinds?: readonly string[];
}

const normal = (next: () => number) => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
const gaussian = (sigma: number) => (next: () => number) => Math.max(0.01, 1 + sigma * normal(next));
const logNormal = (sigma: number) => (next: () => number) => Math.exp(sigma * normal(next));
const laplace = (scale: number) => (next: () => number) =>
  Math.exp(scale * Math.log(1 / (1 - next())) * (next() < 0.5 ? 1 : -1));
const dateOf = (day: number) => new Date(day * DAY);
const weekday = (day: number) => dateOf(day).getUTCDay();
const isWeekend = (day: number) => weekday(day) % 6 === 0;
/** Tells whether a day is one of a part of all days that follow no calendar. */
const isOneOf = (share: number) => (day: number) => random(day)() < share;
const isLastOfMonth = (day: number) => dateOf(day + 1).getUTCDate() === 1;

/** Four Thursdays of each ten. */
const isPausedThursday = (day: number) => weekday(day) === 4 && Math.floor(day / 7) % 10 < 4;
const KINDS = ["spike", "drop", "shift", "fall", "stopped", "", "", ""];
const ABOVE = ["spike", "", ""];
const NONE = [""];

/** Shapes that the case does not have, or has with other noise. */
export const SHAPES: Readonly<Record<string, Shape>> = {
  constant: { part: () => 1, noise: () => 1 },
  gaussian: { part: () => 1, noise: gaussian(0.12) },
  "log-normal": { part: () => 1, noise: logNormal(0.2) },
  "heavy tails": { part: () => 1, noise: laplace(0.07) },
  "weekdays only": { part: (day) => isWeekend(day) ? 0 : 1, noise: logNormal(0.08) },
  "weekend peaks": { part: (day) => isWeekend(day) ? 4 : 1, noise: logNormal(0.1) },
  "monday run": { part: (day) => weekday(day) === 1 ? 6 : 1, noise: logNormal(0.06) },
  "fast growth": { part: (_, age) => 1.012 ** age, noise: logNormal(0.06) },
  decline: { part: (_, age) => 0.993 ** age, noise: logNormal(0.08) },
  "fee on the 15th": { part: (day) => dateOf(day).getUTCDate() === 15 ? 12 : 1, noise: logNormal(0.07) },
  "fee at the end": { part: (day) => isLastOfMonth(day) ? 8 : 1, noise: logNormal(0.07) },
  "fee and weekends": {
    part: (day) => (isWeekend(day) ? 0.3 : 1) + (dateOf(day).getUTCDate() === 1 ? 10 : 0),
    noise: logNormal(0.06),
  },
  credits: { part: () => -1, noise: logNormal(0.1) },
  "gaps of four Thursdays": { part: (day) => isPausedThursday(day) ? 0 : 1, noise: () => 1, kinds: ABOVE },
  "gaps of four Thursdays, noise": {
    part: (day) => isPausedThursday(day) ? 0 : 1,
    noise: logNormal(0.08),
    kinds: ABOVE,
  },
  "a fifth of days absent": {
    part: (day) => isOneOf(0.2)(day) ? 0 : 1,
    noise: logNormal(0.1),
    kinds: ABOVE,
  },
  "two fifths of days absent": {
    part: (day) => isOneOf(0.4)(day) ? 0 : 1,
    noise: logNormal(0.1),
    kinds: ABOVE,
  },
  "gaps and any amount": {
    part: (day) => isOneOf(0.2)(day) ? 0 : 1,
    noise: (next) => 2 * next(),
    kinds: NONE,
  },
  "pause of two weeks": { part: (_, age) => age >= 58 && age < 72 ? 0 : 1, noise: logNormal(0.08) },
  "every Tuesday": { part: (day) => weekday(day) === 2 ? 1 : 0, noise: logNormal(0.05), kinds: ABOVE },
  "Monday, Wednesday, Friday": {
    part: (day) => [1, 3, 5].includes(weekday(day)) ? 1 : 0,
    noise: logNormal(0.05),
    kinds: ABOVE,
  },
  "every other day": { part: (day) => day % 2, noise: logNormal(0.05), kinds: ABOVE },
  "fee only": { part: (day) => dateOf(day).getUTCDate() === 1 ? 1 : 0, noise: logNormal(0.02), kinds: NONE },
  "credit on the 3rd": { part: (day) => dateOf(day).getUTCDate() === 3 ? -4 : 1, noise: logNormal(0.07) },
  "begins on day 20": { part: (_, age) => age < 20 ? 0 : 1, noise: logNormal(0.08) },
  "every Tuesday from day 20": {
    part: (day, age) => age >= 20 && weekday(day) === 2 ? 1 : 0,
    noise: logNormal(0.05),
    kinds: ABOVE,
  },
};

/** Generates labeled series of all shapes, some with an anomaly. */
export function generate(
  seed: number,
  { firstDay, length, warmUp, perShape }: {
    firstDay: number;
    length: number;
    warmUp: number;
    perShape: number;
  },
): LabeledDay[] {
  const next = random(seed);
  const between = (low: number, high: number) => low + next() * (high - low);
  return Object.entries(SHAPES).flatMap(([shape, { part, noise, kinds = KINDS }], index) =>
    Array.from({ length: perShape }, (_, i) => {
      const series = `${index}-${i}`;
      const scale = 10 ** between(0, 4);
      const kind = kinds[Math.floor(next() * kinds.length)];
      let at = firstDay + warmUp + Math.floor(next() * (length - warmUp - 12));
      // A day on which the shape expects next to nothing cannot fall.
      while (part(at, at - firstDay) === 0) at++;
      const factor = {
        spike: between(2.5, 6),
        drop: between(0.1, 0.3),
        shift: between(2.2, 4),
        fall: between(0.15, 0.35),
      }[kind] ?? 1;
      const stop = kind === "stopped" ? 2 + Math.floor(next() * 4) : 0;
      return Array.from({ length }, (_, d): LabeledDay => {
        const day = firstDay + d;
        const isIn = kind === "spike" || kind === "drop" ? day === at : day >= at;
        const usual = scale * part(day, d) * noise(next);
        const isStopped = day >= at && day < at + stop;
        const label = isStopped
          ? "stopped"
          : day !== at || kind === "" || kind === "stopped"
          ? ""
          : kind === "fall"
          ? "shift"
          : kind;
        const amount = isStopped ? 0 : isIn ? usual * factor : usual;
        return { day, series, shape, amount: Number(amount.toFixed(6)), label };
      });
    }).flat()
  );
}
