import {
  type ImportOptions,
  importRecords,
  type ImportReport,
  openBackend,
  type Reject,
  TransferError,
  ValidationError,
} from "../mod.ts";
import type { costEntries } from "../src/records/cost_entry.ts";
import type { DatasetName } from "../src/records/dataset.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { read } from "./backend_contract.ts";

type Bytes = string | Uint8Array<ArrayBuffer>;

/** What became of an import. */
interface Imported {
  report: ImportReport;
  rejects: Reject[];
  notes: string[];
  records: Record<string, unknown>[];
}

/** Imports a file, by its content or by its name in cases/forms, into an empty database. */
async function imported(
  content: { file: string } | Bytes | Blob,
  options: Partial<ImportOptions> & { dataset?: DatasetName } = {},
): Promise<Imported> {
  const backend = await openBackend({ connectionString: "sqlite://" });
  const { dataset = "cost_entries" } = options;
  const rejects: Reject[] = [];
  const notes: string[] = [];
  try {
    const blob = typeof content === "object" && "file" in content
      ? new Blob([await Deno.readFile(new URL(`cases/forms/${content.file}`, import.meta.url))])
      : content instanceof Blob
      ? content
      : new Blob([content]);
    const report = await importRecords(blob.stream(), {
      backend,
      dataset,
      format: "csv",
      onReject: (reject) => rejects.push(reject),
      onNote: (note) => notes.push(note),
      ...options,
    });
    const records = await read(backend, DATASETS[dataset] as typeof costEntries);
    return { report, rejects, notes, records: records as unknown as Record<string, unknown>[] };
  } finally {
    await backend.close();
  }
}

/** The code and the message that an import is refused with. */
async function refusal(run: () => Promise<unknown>): Promise<[code: string, message: string]> {
  const error = await assertRejects(run);
  if (error instanceof TransferError || error instanceof ValidationError) return [error.code, error.message];
  throw error;
}

const lineOf = ({ line, reason }: Reject) => `${line}: ${reason}`;
const amountsOf = ({ records }: Imported) => records.map(({ amount }) => amount);
const daysOf = ({ records }: Imported) =>
  records.map(({ timestamp }) => new Date(timestamp as number).toISOString());
const HEADER = "timestamp,resourceId,category,amount,currency\n";

// --- Numbers and times

const GERMAN = {
  map: { timestamp: "Datum", amount: "Betrag", category: "Dienst" },
  set: { currency: "EUR", resourceId: "r" },
};

Deno.test("importRecords() reads numbers and dates in the forms that options name", async () => {
  const forms = { decimal: ",", dateFormats: ["DD.MM.YYYY", "MM/DD/YYYY"], ...GERMAN } as const;
  const found = await imported({ file: "number-forms.csv" }, forms);
  assertEquals(amountsOf(found), ["1234.5", "12.5", "7"]);
  assertEquals(daysOf(found).map((day) => day.slice(0, 10)), ["2026-11-01", "2026-11-02", "2026-11-03"]);
  const other = await imported({ file: "semicolon.csv" }, { ...forms, delimiter: ";" });
  assertEquals([amountsOf(other), daysOf(other)], [["1234.5"], ["2026-11-01T00:00:00.000Z"]]);
});

Deno.test("importRecords() refuses numbers and dates in other forms by line", async () => {
  const { records, rejects } = await imported({ file: "number-forms.csv" }, GERMAN);
  assertEquals([records.length, rejects.map(({ line }) => line)], [0, [2, 3, 4]]);
  assert(rejects.every(({ reason }) => /--decimal|--date-format/.test(reason)));
  const [code, message] = await refusal(() => imported({ file: "semicolon.csv" }, GERMAN));
  assertEquals([code, message.includes('Use --delimiter ";".')], ["INVALID_HEADER", true]);
});

Deno.test("importRecords() reads thousands separators only in groups of three", async () => {
  const read = async (amount: string, decimal?: "," | ".") => {
    const found = await imported(`${HEADER}2026-01-01,r,c,"${amount}",EUR\n`, { decimal });
    return amountsOf(found)[0];
  };
  const cases: [string, string | undefined, string | undefined, string | undefined][] = [
    // Text, without an option, with a decimal comma, with a decimal point.
    ["1.234", "1.234", "1234", "1.234"],
    ["1,234", undefined, "1.234", "1234"],
    ["1.23", "1.23", undefined, "1.23"],
    ["1.234.567,89", undefined, "1234567.89", undefined],
    ["1,234,567.89", undefined, undefined, "1234567.89"],
    ["1 234,5", undefined, "1234.5", undefined],
    ["1'234.5", undefined, undefined, "1234.5"],
    ["1.234 567", undefined, undefined, undefined],
    ["-,5", undefined, "-0.5", undefined],
    ["1,05e-3", undefined, "0.00105", undefined],
    [",", undefined, undefined, undefined],
  ];
  for (const [text, plain, comma, point] of cases) {
    assertEquals(
      [await read(text), await read(text, ","), await read(text, ".")],
      [plain, comma, point],
      text,
    );
  }
});

Deno.test("importRecords() refuses a date that two formats read differently", async () => {
  const days = ["03/04/2026", "04/04/2026", "13/04/2026", "04/13/2026", "31.02.2026"];
  const found = await imported(HEADER + days.map((day) => `${day},r,c,1,EUR\n`).join(""), {
    dateFormats: ["DD/MM/YYYY", "MM/DD/YYYY"],
  });
  assertEquals(daysOf(found).map((day) => day.slice(5, 10)), ["04-04", "04-13", "04-13"]);
  assertEquals(found.rejects.map(({ line }) => line), [2, 6]);
});

Deno.test("importRecords() reads dates with a time, without separators, with names of months", async () => {
  const cases: [format: string, text: string, expected: string][] = [
    ["MM/DD/YYYY", "9/3/2026 12:00:00 AM", "2026-09-03T00:00:00.000Z"],
    ["MM/DD/YYYY", "09/03/2026 1:05 PM", "2026-09-03T13:05:00.000Z"],
    ["DD.MM.YYYY HH:mm:ss", "01.11.2026 23:59:58", "2026-11-01T23:59:58.000Z"],
    ["YYYYMMDD", "20261101", "2026-11-01T00:00:00.000Z"],
    ["YYYYMMDDHH", "2026110123", "2026-11-01T23:00:00.000Z"],
    ["D MMM YY", "5 Jan 26", "2026-01-05T00:00:00.000Z"],
    ["DD.MM.YYYY", "01.11.2026 10:30 +02:00", "2026-11-01T08:30:00.000Z"],
    ["DD.MM.YYYY", "2026-11-01T10:30Z", "2026-11-01T10:30:00.000Z"],
  ];
  for (const [format, text, expected] of cases) {
    const found = await imported(`${HEADER}${text},r,c,1,EUR\n`, { dateFormats: [format] });
    assertEquals(daysOf(found), [expected], text);
  }
});

Deno.test("importRecords() reads local times in a time zone and refuses those that are unclear", async () => {
  const times = [
    "2026-07-01T00:00",
    "2026-07-01T00:00Z",
    "2026-01-01",
    "2026-10-25T02:30",
    "2026-03-29 02:30",
  ];
  const found = await imported(HEADER + times.map((time) => `${time},r,c,1,EUR\n`).join(""), {
    timeZone: "Europe/Berlin",
  });
  assertEquals(daysOf(found), [
    "2025-12-31T23:00:00.000Z",
    "2026-06-30T22:00:00.000Z",
    "2026-07-01T00:00:00.000Z",
  ]);
  assertEquals(found.rejects.map(({ line }) => line), [5, 6]);
});

Deno.test("importRecords() tells the unit of epoch times", async () => {
  const times = ["1767225600", "1767225600.25", "1767225600250", "1767225600250999", "1767225600250999999"];
  const csv = await imported(HEADER + times.map((time) => `${time},r,c,1,EUR\n`).join(""));
  const after = "2026-01-01T00:00:00.250Z";
  assertEquals(daysOf(csv), ["2026-01-01T00:00:00.000Z", after, after, after, after]);
  assertEquals(csv.notes, [
    "times such as 1767225600 are read as epoch seconds",
    "times such as 1767225600250999 are read as epoch microseconds",
    "times such as 1767225600250999999 are read as epoch nanoseconds",
  ]);
  const rows = times.map((time) =>
    `{"timestamp":${time},"resourceId":"r","category":"c","amount":1,"currency":"EUR"}\n`
  );
  assertEquals(daysOf(await imported(rows.join(""), { format: "ndjson" })), daysOf(csv));
});

Deno.test("importRecords() refuses options that no file can be read with", async () => {
  for (
    const options of [{ delimiter: "a" }, { delimiter: ";;" }, { dateFormats: ["DD.MM"] }, {
      timeZone: "Mars",
    }]
  ) {
    assertEquals((await refusal(() => imported(HEADER, options)))[0], "INVALID_OPTION");
  }
});

// --- Cells of CSV

Deno.test("importRecords() ignores spaces after commas", async () => {
  const { records } = await imported({ file: "spaces.csv" }, { set: { currency: "USD" } });
  assertEquals(records.map(({ resourceId, category, amount }) => [resourceId, category, amount]), [
    ["gpu-01", "gpu", "1"],
    ["gpu-01", "gpu", "1"],
  ]);
  const quoted = await imported(
    'timestamp, resourceId, category, amount, currency\n2026-01-01, "a, ""b""" , c , 1, EUR \n',
  );
  assertEquals(quoted.records.map(({ resourceId, category }) => [resourceId, category]), [['a, "b"', "c"]]);
});

Deno.test("importRecords() takes an empty quoted cell as absent except in text", async () => {
  const { records } = await imported({ file: "all-quoted.csv" }, {
    dataset: "system_metrics",
    set: { clusterId: "c" },
  });
  assertEquals(records.map(({ cpuUsage, gpuUsage }) => [cpuUsage, gpuUsage]), [[5, undefined]]);
  const header =
    '"timestamp","resourceId","category","amount","currency","description","tags","chargePeriodEnd"\n';
  const costs = await imported(
    header + '"2026-01-01","r","c","1","EUR","","",""\n"2026-01-01","r","c","","EUR","","",""\n',
  );
  const [{ description, chargePeriodEnd }] = costs.records;
  assertEquals([description, chargePeriodEnd], ["", undefined]);
  assertEquals(costs.rejects.map(lineOf), ["3: Cannot accept a cost entry: amount must be given."]);
});

Deno.test("importRecords() ignores empty columns at the end, and no others", async () => {
  const ends = [",,,", ",", ',"",', ",x", ""];
  const header = HEADER.replace("\n", ",,\n");
  const { records, rejects } = await imported(
    header + ends.map((end) => `2026-01-01,r,c,1,EUR${end}\n`).join(""),
  );
  assertEquals([records.length, rejects.map(({ line }) => line)], [4, [5]]);
  const short = await imported(`${HEADER}2026-01-01,r,c,1\n`);
  assertEquals(short.rejects.map(lineOf), ["2: The line has 4 columns, and the first line 5."]);
});

Deno.test("importRecords() ignores a byte order mark at the start of any line", async () => {
  const found = await imported(`\uFEFF${HEADER}\uFEFF"2026-01-01",r,c,1,EUR\n2026-01-02,r,c,2,EUR\n`);
  assertEquals(amountsOf(found), ["1", "2"]);
});

Deno.test("importRecords() takes the texts of nullTexts as missing values", async () => {
  const nullTexts = ["\\N", "N/A"];
  const header = HEADER.replace("\n", ",region,listCost\n");
  const line = '2026-01-01,r,c,1,EUR,\\N,"N/A"\n';
  const [cost] = (await imported(header + line, { nullTexts })).records;
  assertEquals([cost.region, cost.listCost], [undefined, undefined]);
  assertEquals((await imported(header + line)).rejects.map(({ line }) => line), [2]);
});
