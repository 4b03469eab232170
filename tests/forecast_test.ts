/**
 * Back-tests of the forecast: histories of 90 days and a month, of which only the first days are known.
 *
 * @module
 */
import { DAY_MS } from "../src/records/calendar.ts";
import { type DailyForecast, forecastDays, trendOfDays } from "../src/aggregation/forecast.ts";
import { assert, assertEquals } from "./assert.ts";

const SEEDS = 50;
const HISTORY = 90;

/** Numbers from 0 to 1 that look random and are the same each time. */
function seeded(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** About 1, normally distributed. */
const noise = (random: () => number, sigma = 0.1) =>
  1 + sigma * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** Costs of a day, counted from the first day of the history and from the epoch. */
type Shape = (t: number, day: number, random: () => number) => number;

const isDayOfMonth = (day: number, dayOfMonth: number) => new Date(day * DAY_MS).getUTCDate() === dayOfMonth;
const week = (day: number) => [1, 1, 1, 1, 1, 0.4, 0.3][(day + 3) % 7];

const SHAPES: Readonly<Record<string, Shape>> = {
  flat: (_t, _day, random) => 100 * noise(random),
  weekly: (_t, day, random) => 100 * week(day) * noise(random),
  growing: (t, _day, random) => 100 * 1.01 ** t * noise(random),
  "lumpy on the 1st": (_t, day, random) => 100 * noise(random) + (isDayOfMonth(day, 1) ? 1_500 : 0),
};

/** Days of a month by the first of them, for a seed. */
function monthOf(seed: number): { start: number; end: number } {
  const [start, end] = [seed % 12, seed % 12 + 1].map((month) => Date.UTC(2026, month, 1) / DAY_MS);
  return { start, end };
}

interface Case {
  readonly shape: Shape;
  readonly seed: number;
  readonly known: number;
  readonly lag?: number;
}

/** Forecasts a month of which some days are known; gives the errors of the forecast and of plain pro rata. */
function errorsOf(
  { shape, seed, known, lag = 0 }: Case,
): { error: number; proRata: number; isWithin: boolean } {
  const random = seeded(seed * 7_919 + known);
  const { start, end } = monthOf(seed);
  const days = new Map<number, number>();
  let [actual, soFar] = [0, 0];
  for (let day = start - HISTORY; day < end; day++) {
    const cost = shape(day - start + HISTORY, day, random);
    const isKnown = day < start + known - lag;
    if (isKnown) days.set(day, cost);
    if (day >= start) actual += cost;
    if (day >= start && isKnown) soFar += cost;
  }
  const found = forecastDays({ days, start, end, today: start + known }) as DailyForecast;
  assertEquals(found.lastDay, start + known - lag - 1);
  return {
    error: Math.abs(found.total / actual - 1) * 100,
    proRata: Math.abs(soFar * (end - start) / (known - lag) / actual - 1) * 100,
    isWithin: actual >= found.low && actual <= found.high,
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

const backtests = [
  ...Object.keys(SHAPES).map((name) => [name, SHAPES[name], 0] as const),
  ["flat with two days' lag", SHAPES.flat, 2],
  ["weekly with two days' lag", SHAPES.weekly, 2],
] as const;

for (const [name, shape, lag] of backtests) {
  Deno.test(`forecastDays() is off by 5 % at most, and no more than pro rata, when costs are ${name}`, () => {
    for (const known of [5, 10, 20]) {
      const cases = Array.from({ length: SEEDS }, (_, i) => errorsOf({ shape, seed: i + 1, known, lag }));
      const [error, proRata] = [
        median(cases.map(({ error }) => error)),
        median(cases.map((one) => one.proRata)),
      ];
      const shown = `day ${known}: ${error.toFixed(2)} %, pro rata ${proRata.toFixed(2)} %`;
      assert(error <= 5 && error <= proRata + 0.5, shown);
      const within = cases.filter(({ isWithin }) => isWithin).length;
      assert(within >= SEEDS * 0.65, `${shown}: ${within} of ${SEEDS} within the interval`);
    }
  });
}

const NOVEMBER = Date.UTC(2026, 10, 1) / DAY_MS;
const november = { start: NOVEMBER, end: NOVEMBER + 30 };

/** A cost for each day of a span. */
function daily(from: number, to: number, costOf: (day: number) => number = () => 10): Map<number, number> {
  return new Map(Array.from({ length: to - from }, (_, i) => [from + i, costOf(from + i)]));
}

Deno.test("forecastDays() gives no number when it has too little data, and says why", () => {
  const today = NOVEMBER + 5;
  const ask = (days: Map<number, number>, more = {}) => forecastDays({ days, ...november, today, ...more });
  assertEquals(ask(new Map()), "there are no costs yet");
  assertEquals(ask(daily(today - 1, today)), "it needs 14 complete days of costs, and there is 1");
  assertEquals(ask(daily(today, today + 1)), "it needs 14 complete days of costs, and there are 0");
  assertEquals(ask(daily(today - 13, today)), "it needs 14 complete days of costs, and there are 13");
  assertEquals(typeof ask(daily(today - 14, today)), "object");
  assertEquals(
    ask(daily(today - 60, today), { end: NOVEMBER + 365 }),
    "it needs 90 complete days of costs, and there are 60",
  );
  assertEquals(ask(daily(today - 60, today - 11)), "costs end 11 days ago");
  assertEquals(ask(daily(today - 60, today), { start: today - 5, end: today }), undefined); // it is over
  assertEquals(ask(daily(NOVEMBER - 60, NOVEMBER + 5), { today: NOVEMBER + 40 }), undefined);
});

Deno.test("forecastDays() knows where the data ends", () => {
  const today = NOVEMBER + 15;
  const lastDay = (days: Map<number, number>) =>
    (forecastDays({ days, ...november, today }) as DailyForecast).lastDay - NOVEMBER + 1;
  assertEquals(lastDay(daily(NOVEMBER - 60, today)), 15);
  assertEquals(lastDay(daily(NOVEMBER - 60, today + 1)), 15); // today is not over
  assertEquals(lastDay(daily(NOVEMBER - 60, today - 3)), 12);
  assertEquals(lastDay(daily(NOVEMBER - 60, today - 3).set(today - 3, 1)), 12); // a part of a day
  // The 14th and 15th are a weekend, on which nothing ever costs: that is not late.
  const isWorkday = (day: number) => (day + 3) % 7 < 5;
  const workdays = (to: number) => new Map([...daily(NOVEMBER - 60, to)].filter(([day]) => isWorkday(day)));
  assertEquals(lastDay(workdays(NOVEMBER + 13)), 15);
  assertEquals(lastDay(workdays(NOVEMBER + 12)), 12);
});

Deno.test("forecastDays() takes a cost of the same day of each month, and no outlier, into account", () => {
  const today = NOVEMBER + 10;
  const ask = (costOf: (day: number) => number) =>
    forecastDays({ days: daily(NOVEMBER - 90, today, costOf), ...november, today }) as DailyForecast;
  const on = (dayOfMonth: number) => (day: number) => isDayOfMonth(day, dayOfMonth) ? 500 : 10;
  assertEquals([ask(on(20)).total, ask(on(20)).model.monthly], [790, [{ day: 20, amount: 490 }]]);
  assertEquals(ask(on(5)).total, 790);
  const part = { days: daily(NOVEMBER - 90, today), ...november, today, known: 95, lastPart: 0.5 };
  assertEquals((forecastDays(part) as DailyForecast).total, 95 + 19.5 * 10);
  const onLast = ask((day) => isDayOfMonth(day + 1, 1) ? 500 : 10);
  assertEquals([onLast.total, onLast.model.monthly], [790, [{ day: 0, amount: 490 }]]);
  assertEquals(ask((day) => day === NOVEMBER - 20 ? 500 : 10).total, 300);
  assertEquals(ask((day) => day === NOVEMBER + 3 ? -500 : 10).total, -210);
  // From a month ago on everything costs twice as much.
  assertEquals(Math.round(ask((day) => day < NOVEMBER - 30 ? 10 : 20).total), 600);
  const growing = ask((day) => 10 * 1.02 ** (day - NOVEMBER));
  assertEquals(growing.model.growthPerDay?.toFixed(2), "2.00");
  assertEquals(growing.total.toFixed(0), (10 * (1.02 ** 30 - 1) / 0.02).toFixed(0));
});

Deno.test("trendOfDays() says increasing or decreasing only where that holds", () => {
  const random = seeded(3);
  const trend = (costOf: (day: number) => number, length = 30) =>
    trendOfDays({ days: daily(NOVEMBER, NOVEMBER + length, costOf), ...november, today: NOVEMBER + length });
  assertEquals(trend((day) => 10 + (day - NOVEMBER)), "increasing");
  assertEquals(trend((day) => 100 - (day - NOVEMBER)), "decreasing");
  assertEquals(trend(() => 10), "stable");
  assertEquals(trend((day) => isDayOfMonth(day, 1) ? 900 : 10), "stable"); // not decreasing
  assertEquals(trend((day) => isDayOfMonth(day, 29) ? 900 : 10), "stable"); // not increasing
  assertEquals(trend((day) => 10 * week(day), 26), "stable");
  assertEquals(trend((day) => day - NOVEMBER, 13), undefined); // too few days
  const wrong = Array.from({ length: 100 }, () => trend(() => 100 * noise(random, 0.3)))
    .filter((found) => found === "increasing" || found === "decreasing");
  assert(wrong.length <= 3, `${wrong.length} of 100 without a trend`);
});
