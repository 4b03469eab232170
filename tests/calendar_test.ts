import {
  bucketAt,
  bucketRangesOf,
  bucketRangesOfDays,
  bucketsOf,
  parseBucket,
} from "../src/records/calendar.ts";
import { assertEquals } from "./assert.ts";

const HOUR = 3_600_000;

/** The buckets of a range: the local time at which each begins, and its hours. */
function buckets(bucket: string, [from, to]: [string, string], timeZone = "UTC"): string[] {
  const at = (text: string) => Temporal.PlainDateTime.from(text).toZonedDateTime(timeZone).epochMilliseconds;
  const ranges = bucketRangesOf(parseBucket(bucket)!, { start: at(from), end: at(to), timeZone });
  return [...bucketsOf(ranges)].map(({ start, end }) => {
    const local = Temporal.Instant.fromEpochMilliseconds(start).toZonedDateTimeISO(timeZone);
    return `${local.toPlainDateTime().toString({ smallestUnit: "minute" })} ${(end - start) / HOUR}`;
  });
}

Deno.test("bucketRangesOf() returns days of 23 and 25 hours when clocks change", () => {
  assertEquals(buckets("1d", ["2026-03-07T12:00", "2026-03-09T12:00"], "America/New_York"), [
    "2026-03-07T00:00 24",
    "2026-03-08T00:00 23",
    "2026-03-09T00:00 24",
  ]);
  assertEquals(buckets("1d", ["2026-10-31T00:00", "2026-11-02T00:00"], "America/New_York"), [
    "2026-10-31T00:00 24",
    "2026-11-01T00:00 25",
  ]);
  assertEquals(buckets("1w", ["2026-03-08T00:00", "2026-03-09T00:01"], "America/New_York"), [
    "2026-03-02T00:00 167",
    "2026-03-09T00:00 168",
  ]);
});

Deno.test("bucketRangesOf() returns one day of 25 hours when midnight repeats", () => {
  assertEquals(buckets("1d", ["2024-10-30T00:00", "2024-11-02T00:00"], "Africa/Cairo"), [
    "2024-10-30T00:00 24",
    "2024-10-31T00:00 25",
    "2024-11-01T00:00 24",
  ]);
  assertEquals(buckets("1d", ["2025-04-05T00:00", "2025-04-07T00:00"], "America/Santiago"), [
    "2025-04-05T00:00 25",
    "2025-04-06T00:00 24",
  ]);
  const [start, end] = [Date.parse("2024-10-30T21:00Z"), Date.parse("2024-10-31T22:00Z")];
  const ranges = bucketRangesOf(parseBucket("1d")!, { start, end, timeZone: "Africa/Cairo" });
  for (const time of [start, end - 1]) assertEquals(bucketAt(ranges, time), { start, end });
});

const ZONES = [
  "Africa/Cairo",
  "America/Havana",
  "America/New_York",
  "America/Nuuk",
  "America/Santiago",
  "America/Sao_Paulo",
  "Asia/Amman",
  "Asia/Beirut",
  "Asia/Tehran",
  "Atlantic/Azores",
  "Australia/Lord_Howe",
  "Pacific/Apia",
];

for (const [bucket, days] of [["1d", 1], ["1w", 7]] as const) {
  Deno.test(`bucketRangesOf() starts each ${bucket} where a loop over days does`, () => {
    for (const timeZone of ZONES) {
      for (const [from, to] of [["2010-12-27", "2012-03-05"], ["2023-01-02", "2025-12-29"]]) {
        const counted = new Set<number>();
        for (let day = Temporal.PlainDate.from(from); day.toString() < to; day = day.add({ days })) {
          counted.add(day.toZonedDateTime({ timeZone }).epochMilliseconds);
        }
        const [start] = counted;
        const end = Temporal.PlainDate.from(to).toZonedDateTime({ timeZone }).epochMilliseconds;
        const ranges = bucketRangesOf(parseBucket(bucket)!, { start, end, timeZone });
        assertEquals(
          [...bucketsOf(ranges)].map(({ start }) => start),
          [...counted],
          `${timeZone} from ${from}`,
        );
      }
    }
  });
}

Deno.test("bucketRangesOf() restarts buckets below a day at midnight", () => {
  assertEquals(buckets("6h", ["2026-11-01T17:00", "2026-11-02T06:00"], "America/New_York"), [
    "2026-11-01T17:00 6",
    "2026-11-01T23:00 1",
    "2026-11-02T00:00 6",
  ]);
  assertEquals(buckets("5h", ["2026-01-01T16:00", "2026-01-02T01:00"]), [
    "2026-01-01T15:00 5",
    "2026-01-01T20:00 4",
    "2026-01-02T00:00 5",
  ]);
  assertEquals(buckets("1h", ["2026-01-01T00:30", "2026-01-01T01:30"], "Asia/Kathmandu"), [
    "2026-01-01T00:00 1",
    "2026-01-01T01:00 1",
  ]);
});

Deno.test("bucketRangesOf() starts a day at its first instant when it has no midnight", () => {
  assertEquals(buckets("1d", ["2018-11-03T12:00", "2018-11-05T12:00"], "America/Sao_Paulo"), [
    "2018-11-03T00:00 24",
    "2018-11-04T01:00 23",
    "2018-11-05T00:00 24",
  ]);
  assertEquals(buckets("1d", ["2011-12-29T00:00", "2012-01-01T00:00"], "Pacific/Apia"), [
    "2011-12-29T00:00 24",
    "2011-12-31T00:00 24", // there was no 30 December
  ]);
  assertEquals(buckets("1d", ["2026-10-31T00:00", "2026-11-02T00:00"], "America/Havana"), [
    "2026-10-31T00:00 24",
    "2026-11-01T00:00 25",
  ]);
});

Deno.test("bucketRangesOf() follows the calendar for months, quarters and years", () => {
  assertEquals(buckets("1mo", ["2028-01-31T00:00", "2028-04-01T00:00"]), [
    "2028-01-01T00:00 744",
    "2028-02-01T00:00 696",
    "2028-03-01T00:00 744",
  ]);
  assertEquals(buckets("3mo", ["2026-02-01T00:00", "2026-04-02T00:00"], "Europe/Berlin"), [
    "2026-01-01T00:00 2159",
    "2026-04-01T00:00 2184",
  ]);
  assertEquals(buckets("1y", ["2027-05-01T00:00", "2028-05-01T00:00"]), [
    "2027-01-01T00:00 8760",
    "2028-01-01T00:00 8784",
  ]);
});

Deno.test("bucketRangesOf() returns few ranges for many buckets", () => {
  const range = { start: Date.UTC(2000, 0, 1), end: Date.UTC(2026, 0, 1) };
  const count = (bucket: string, timeZone: string) =>
    bucketRangesOf(parseBucket(bucket)!, { ...range, timeZone }).length;
  assertEquals(count("1m", "America/New_York"), 1);
  assertEquals(count("1d", "UTC"), 1);
  assertEquals(count("1d", "America/New_York"), 26 * 4 + 1); // two odd days a year, and what lies between
});

Deno.test("parseBucket() accepts divisors of a day and a year only", () => {
  const right = ["1s", "90s", "15m", "1440m", "24h", "1d", "1w", "1mo", "2mo", "3mo", "6mo", "12mo", "1y"];
  const wrong = [
    "",
    "1",
    "h",
    "0h",
    "-1h",
    "1.5h",
    "25h",
    "2d",
    "5mo",
    "13mo",
    "2y",
    "1M",
    "1 h",
    "1day",
    "9999s",
  ];
  assertEquals(right.filter((text) => !parseBucket(text)), []);
  assertEquals(wrong.filter((text) => parseBucket(text)), []);
});

Deno.test("bucketRangesOf() equals a loop over days for thousands of years", () => {
  for (
    const timeZone of [
      "UTC",
      "Asia/Kathmandu",
      "America/New_York",
      "Australia/Lord_Howe",
      "America/Sao_Paulo",
    ]
  ) {
    for (const [bucket, unit] of [["1mo", "months"], ["3mo", "months"], ["1y", "years"]] as const) {
      const step = { [unit]: bucket === "3mo" ? 3 : 1 };
      const counted: number[] = [];
      for (let day = Temporal.PlainDate.from("1973-01-01"); day.year < 2075; day = day.add(step)) {
        counted.push(day.toZonedDateTime({ timeZone }).epochMilliseconds);
      }
      const end = Temporal.PlainDate.from("2075-01-01").toZonedDateTime({ timeZone }).epochMilliseconds;
      const ranges = bucketRangesOf(parseBucket(bucket)!, { start: counted[0], end, timeZone });
      assertEquals([...bucketsOf(ranges)].map(({ start }) => start), counted, `${bucket} ${timeZone}`);
    }
  }
});

Deno.test("bucketRangesOfDays() returns the buckets of the days once each, in chunks", () => {
  const DAY = 24 * HOUR;
  const first = Date.UTC(2026, 0, 1);
  const start = first + 5 * HOUR;
  const days = [0, 1, 2, 40, 41, 400, 500].map((day) => first + day * DAY);
  for (const timeZone of ["UTC", "America/New_York"]) {
    for (const bucket of ["5h", "1h", "1d", "1w", "1mo", "1y"]) {
      const parsed = parseBucket(bucket)!;
      const span = { start, end: days.at(-1)! + 7 * HOUR, timeZone };
      const all = [...bucketsOf(bucketRangesOf(parsed, span))];
      const expected = all.filter(({ start, end }) => days.some((day) => start < day + DAY && end > day));
      for (const chunkLength of [1, 1_000]) {
        const chunks = [...bucketRangesOfDays(parsed, { ...span, days, chunkLength })];
        assertEquals(chunks.flatMap((ranges) => [...bucketsOf(ranges)]), expected, `${bucket} ${timeZone}`);
      }
    }
  }
});
