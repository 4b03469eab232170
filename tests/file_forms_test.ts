import { constants, gzipSync, zstdCompressSync } from "node:zlib";
import {
  exportRecords,
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
import { JsonStream } from "../src/transfer/json_stream.ts";
import { decompress, RatioLimit } from "../src/transfer/decompress.ts";
import { openParts } from "../src/transfer/file_parts.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "./assert.ts";
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
    const report = await importRecords(blob, {
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
  const hint = 'Cannot import cost_entries: the columns seem to be separated by ";". Use --delimiter ";".';
  assertEquals([code, message], ["INVALID_HEADER", hint]);
  for (
    const header of [
      "Datum;Betrag;Dienst",
      "Datum|Betrag",
      "Datum\tBetrag\tDienst",
      "Datum;Betrag, netto;Ort",
    ]
  ) {
    const [, only] = await refusal(() =>
      imported(new Blob([`${header}\n1;2;3\n`]), { set: { currency: "EUR" } })
    );
    assertMatch(
      only,
      /^Cannot import cost_entries: the columns seem to be separated by \S+\. Use --delimiter \S+\.$/,
    );
  }
  const [, quoted] = await refusal(() => imported(new Blob(['"Datum";"Betrag"\n1;2\n'])));
  assertMatch(quoted, /end of the line\. Use --delimiter ";" if the cells are separated by it\.$/);
  const [, usual] = await refusal(() =>
    imported(new Blob(["Datum,Betrag;netto\n1,2\n"]), { set: { currency: "EUR" } })
  );
  assertMatch(usual, /--map/);
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

Deno.test("importRecords() refuses forms of numbers and times for FOCUS, and takes them for a bill", async () => {
  for (
    const options of [{ decimal: "," }, { dateFormats: ["DD.MM.YYYY"] }, { timeZone: "Asia/Tokyo" }] as const
  ) {
    assertEquals(
      (await refusal(() => imported(COSTS, { format: "focus", ...options })))[0],
      "CONFLICTING_OPTIONS",
    );
  }
  const azure = "Date,Cost,ResourceId,MeterCategory,BillingCurrency\n03/04/2026,3.25,vm1,Compute,EUR\n";
  const days = async (dateFormats?: string[]) =>
    daysOf(await imported(azure, { format: "azure", dateFormats }));
  assertEquals([await days(), await days(["DD/MM/YYYY"])], [["2026-03-04T00:00:00.000Z"], [
    "2026-04-03T00:00:00.000Z",
  ]]);
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

// --- Packed files and encodings

const COSTS = `${HEADER}2026-01-01,r-1,c,1.25,EUR\n2026-01-02,r-2,c,2.5,EUR\n`;
const utf8 = (text: string) => new TextEncoder().encode(text);

/** The bytes of a text in UTF-16. */
function utf16(text: string, { isBig = false, hasMark = true } = {}): Uint8Array<ArrayBuffer> {
  const marked = hasMark ? `\uFEFF${text}` : text;
  const view = new DataView(new ArrayBuffer(2 * marked.length));
  for (let i = 0; i < marked.length; i++) view.setUint16(2 * i, marked.charCodeAt(i), !isBig);
  return new Uint8Array(view.buffer);
}

/** A zip file of members by name. */
async function zip(members: Record<string, Bytes>): Promise<Uint8Array<ArrayBuffer>> {
  const { configure, BlobWriter, BlobReader, ZipWriter } = await import("@zip.js/zip.js");
  configure({ useWebWorkers: false });
  const writer = new ZipWriter(new BlobWriter());
  for (const [name, content] of Object.entries(members)) {
    await writer.add(name, new BlobReader(new Blob([content])));
  }
  return new Uint8Array(await (await writer.close()).arrayBuffer());
}

const packers: Record<string, (text: string) => Uint8Array<ArrayBuffer>> = {
  gzip: (text) => new Uint8Array(gzipSync(text)),
  zstd: (text) => new Uint8Array(zstdCompressSync(utf8(text))),
  "zstd with a checksum": (text) =>
    new Uint8Array(zstdCompressSync(utf8(text), { params: { [constants.ZSTD_c_checksumFlag]: 1 } })),
};

for (const [format, pack] of Object.entries(packers)) {
  Deno.test(`importRecords() reads ${format}, also of several parts, and tells when it is cut`, async () => {
    const [whole, rest] = [pack(HEADER), pack(COSTS.slice(HEADER.length))];
    const both = new Uint8Array([...whole, ...rest]);
    assertEquals(amountsOf(await imported(both)), ["1.25", "2.5"]);
    const cuts = [both.length - 1, both.length - 9, whole.length + 6];
    for (const length of cuts) {
      const [code, message] = await refusal(() => imported(both.slice(0, length)));
      assertEquals(
        [code, /damaged or cut short/.test(message)],
        ["INVALID_FILE", true],
        `${length}: ${message}`,
      );
    }
  });
}

/** The text that zstd becomes. */
async function unzstd(packed: Uint8Array<ArrayBuffer>): Promise<string> {
  return await new Response(decompress(new Blob([packed]).stream(), "zstd") as ReadableStream).text();
}

Deno.test("decompress() tells that zstd of blocks of any kind is cut, at any byte", async () => {
  const random = crypto.getRandomValues(new Uint8Array(9_000)).toHex();
  const text = COSTS + "2026-01-03,r,c,1,EUR\n".repeat(30_000) + random;
  const packed = packers.zstd(text);
  assertEquals(await unzstd(packed) === text, true);
  for (let length = 5; length < packed.length; length += Math.ceil(packed.length / 99)) {
    assertEquals((await refusal(() => unzstd(packed.slice(0, length))))[0], "INVALID_FILE", String(length));
  }
});

Deno.test("decompress() tells that zstd is damaged, at any byte", async () => {
  const rows = Array.from({ length: 20_000 }, (_, i) => `2026-01-01,r-${i * 7_919 % 10_007},c,${i},EUR\n`);
  const packed = packers["zstd with a checksum"](rows.join(""));
  assertEquals(await unzstd(packed) === rows.join(""), true);
  for (let at = 4; at < packed.length; at += Math.ceil(packed.length / 99)) {
    const damaged = packed.slice();
    damaged[at] ^= 0x55;
    assertEquals((await refusal(() => unzstd(damaged)))[0], "INVALID_FILE", String(at));
  }
});

Deno.test("importRecords() reads UTF-16 with and without a mark, and refuses broken UTF-16", async () => {
  const text = COSTS.replace("r-1", "größe");
  for (const options of [{}, { isBig: true }, { hasMark: false }, { isBig: true, hasMark: false }]) {
    const { records } = await imported(utf16(text, options));
    assertEquals(records.map(({ resourceId }) => resourceId), ["größe", "r-2"], JSON.stringify(options));
  }
  const [code] = await refusal(() => imported(utf16(text.replace("größe", "\ud800"))));
  assertEquals(code, "INVALID_FILE");
});

Deno.test("importRecords() reads each member of a zip file and skips manifests", async () => {
  const second = `${HEADER}2026-02-01,r,c,4,EUR\nx,r,c,1,EUR\n`;
  const file = await zip({
    "bill/part-1.csv": COSTS,
    "bill/part-2.csv.gz": packers.gzip(second),
    "bill/x-Manifest.json": "{}",
    "__MACOSX/._part-1.csv": "\0\0",
  });
  const { report, rejects, notes, records } = await imported(file);
  assertEquals([report.stored, records.map(({ amount }) => amount)], [3, ["1.25", "2.5", "4"]]);
  assertEquals(rejects.map(({ member, line }) => [member, line]), [["bill/part-2.csv.gz", 3]]);
  assertEquals(notes, [
    "bill/x-Manifest.json: skipped: a manifest lists the files of a delivery and has no rows",
  ]);
});

Deno.test("importRecords() refuses zip files that are damaged, encrypted or packed twice too often", async () => {
  const file = await zip({ "a.csv": COSTS.repeat(50), "b.csv": COSTS });
  for (const length of [file.length - 10, 300, 40]) {
    assertEquals((await refusal(() => imported(file.slice(0, length))))[0], "INVALID_FILE", String(length));
  }
  const damaged = file.slice();
  damaged[60] ^= 0xff;
  assertEquals((await refusal(() => imported(damaged)))[0], "INVALID_FILE");
  const [code, message] = await refusal(async () =>
    imported(await zip({ "a.zip": await zip({ "b.zip": await zip({ "c.csv": COSTS }) }) }))
  );
  assertEquals([code, message.includes("Unpack it first")], ["UNSUPPORTED_FORMAT", true]);
});

Deno.test("openParts() reads a zip file in small parts, as each may become 1,032 times larger at once", async () => {
  const file = await zip({ "a.csv": "a\n".repeat(2 ** 25) }); // 64 MiB in 64 KiB
  const blob = new Blob([file]);
  const lengths: number[] = [];
  const counted = {
    size: blob.size,
    slice(start: number, end: number) {
      if (start < file.length / 2) lengths.push(end - start);
      return blob.slice(start, end);
    },
    stream: () => blob.stream(),
  };
  for await (const { text } of openParts(counted)) await text!.cancel();
  assert(Math.max(...lengths) <= 2 ** 14, `read ${Math.max(...lengths)} bytes at once`);
});

Deno.test("RatioLimit() stops what becomes far larger than a bill can, from 1 GiB on", () => {
  const limit = new RatioLimit();
  limit.packed = 2 ** 10;
  limit.add(2 ** 30);
  assertThrows(() => limit.add(1), TransferError, "more than 1000 times larger");
  limit.packed = 2 ** 30;
  limit.add(2 ** 30);
});

// --- JSON

const cost = (day: string, amount: number, more = {}) => (
  { timestamp: `2026-01-${day}`, resourceId: "r", category: "c", amount, currency: "EUR", ...more }
);

Deno.test("importRecords() reads JSON arrays, single objects and objects on several lines", async () => {
  const costs = [cost("01", 1, { description: 'a "}" \\ [' }), cost("02", 2)];
  const spread = costs.map((one) => JSON.stringify(one, null, 2)).join("\n");
  const forms = [
    JSON.stringify(costs),
    `\uFEFF${JSON.stringify(costs, null, 2)}\n`,
    costs.map((one) => JSON.stringify(one)).join("\n"),
    spread,
    `[\n${costs.map((one) => JSON.stringify(one)).join(",\n")}\n]`,
  ];
  for (const text of forms) {
    for (const format of ["csv", "ndjson"] as const) {
      const found = await imported(text, { format });
      assertEquals([amountsOf(found), found.records[0].description], [["1", "2"], 'a "}" \\ ['], text);
    }
  }
  assertEquals(amountsOf(await imported(JSON.stringify(costs[0], null, 1))), ["1"]);
});

Deno.test("importRecords() names faulty objects of JSON by line", async () => {
  const text = `[\n${JSON.stringify(cost("01", 1))},\n{"a": },\n7,\n${JSON.stringify(cost("02", 2))}]\n`;
  const { records, rejects } = await imported(text);
  assertEquals([records.length, rejects.map(({ line }) => line)], [2, [3, 4]]);
  const large = await imported(
    `[{"description": "${"x".repeat(2 ** 20)}"}, ${JSON.stringify(cost("02", 2))}]`,
  );
  assertEquals([large.records.length, large.rejects.map(lineOf)], [1, [
    "1: The object is longer than 1048576 bytes.",
  ]]);
});

Deno.test("importRecords() stores nothing of a JSON array that is cut", async () => {
  const text = JSON.stringify([cost("01", 1), cost("02", 2)], null, 1);
  for (let length = 2; length < text.length; length += 5) {
    const [code, message] = await refusal(() => imported(text.slice(0, length)));
    assertEquals([code, message.includes("cut short")], ["INVALID_FILE", true], text.slice(0, length));
  }
});

Deno.test("importRecords() reads JSON in chunks of any size", async () => {
  const text = JSON.stringify([cost("01", 1, { description: 'é"\\' }), cost("02", 2)], null, 1);
  for (const size of [1, 2, 3, 7]) {
    const chunks = utf8(text);
    const stream = ReadableStream.from((function* () {
      for (let at = 0; at < chunks.length; at += size) yield chunks.slice(at, at + size);
    })());
    const found = await Array.fromAsync(stream.pipeThrough(new JsonStream()));
    assertEquals(found.flat().map(({ line, text }) => [line, JSON.parse(text).amount]), [[2, 1], [10, 2]]);
  }
});

Deno.test("importRecords() skips manifests of AWS and Azure with a note", async () => {
  const manifests = [
    { assemblyId: "a", reportKeys: ["x.csv.gz"] },
    { manifestVersion: "2024-04-01", blobs: [{ blobName: "x" }] },
    { executionId: "e", dataFiles: ["s3://x"] },
  ];
  for (const manifest of manifests) {
    for (const text of [JSON.stringify(manifest), JSON.stringify(manifest, null, 2)]) {
      const { report, notes } = await imported(text);
      assertEquals([report.stored, report.rejected, notes.length], [0, 0, 1], text);
    }
  }
});

// --- What cannot be read

Deno.test("importRecords() names what a file is that it cannot read", async () => {
  const hex = (digits: string) => new Uint8Array(Uint8Array.fromHex(digits.padEnd(64, "00")));
  const cases: [Bytes, RegExp][] = [
    [
      await zip({ "[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>" }),
      /an Excel workbook. Export it as CSV/,
    ],
    [hex("d0cf11e0a1b11ae1"), /an old Excel workbook/],
    ["%PDF-1.7\n", /a PDF/],
    ["ORC\u0003\0\0", /an ORC file. Export it as CSV/],
    [hex("4f626a01"), /an Avro file/],
    ["SQLite format 3\0", /a SQLite database. Use `openfinops database migrate/],
    [hex("fd377a585a00"), /an xz file. Unpack it first/],
    ["BZh91AY&SY", /a bzip2 file/],
    ["<!DOCTYPE html><html>", /a web page/],
    ["<?xml version='1.0'?><Workbook>", /an XML file/],
    [hex("7f454c4602"), /no text; it begins with the bytes 7f 45 4c 46/],
    ["timestamp,amount\nentr\0y", /no text; byte 22 is NUL/],
    [await zip({}), /an empty zip file/],
  ];
  for (const [content, expected] of cases) {
    const [code, message] = await refusal(() => imported(content));
    assertEquals([code, expected.test(message)], ["UNSUPPORTED_FORMAT", true], message);
  }
});

// --- Parquet

Deno.test("importRecords() reads the types of Parquet exactly", async () => {
  const { records } = await imported({ file: "types.parquet" }, {
    map: {
      timestamp: "ts_local",
      amount: "big",
      listCost: "small",
      effectiveCost: "mid",
      chargePeriodEnd: "ts_utc",
      billingPeriodStart: "day",
      tags: "tags",
      resourceId: "n",
      region: "text",
      skuId: "uuid",
      contractedCost: "f",
    },
    set: { currency: "USD", category: "c" },
  });
  const [{ entryId: _id, source: _source, deliveryId: _delivery, ...found }] = records;
  assertEquals(found, {
    timestamp: Date.parse("2026-01-31T12:34:56.789Z"),
    amount: "123456789012345678.123456789012345678",
    listCost: "-12.34",
    effectiveCost: "0.000001",
    contractedCost: "0.1",
    chargePeriodEnd: Date.parse("2026-01-31T12:34:56.789Z"),
    billingPeriodStart: Date.parse("2026-02-01"),
    tags: { team: "nlp", env: "prod" },
    resourceId: "9007199254740993",
    region: "café",
    skuId: "6f1d4b3e-0000-4000-8000-000000000001",
    category: "c",
    currency: "USD",
  });
});

Deno.test("importRecords() reads local times of Parquet in a time zone", async () => {
  const found = await imported({ file: "types.parquet" }, {
    map: { timestamp: "ts_local", chargePeriodEnd: "ts_utc", amount: "mid" },
    set: { currency: "USD", category: "c", resourceId: "r" },
    timeZone: "Europe/Berlin",
  });
  const [{ timestamp, chargePeriodEnd }] = found.records;
  assertEquals([timestamp, chargePeriodEnd], [
    Date.parse("2026-01-31T11:34:56.789Z"),
    Date.parse("2026-01-31T12:34:56.789Z"),
  ]);
});

Deno.test("importRecords() takes FOCUS back from Parquet with every column equal", async () => {
  for (const [name, focusVersion] of [["focus-1.4.csv", "1.4"], ["focus-1.0.csv", "1.0"]] as const) {
    let file = await Deno.readFile(new URL(`cases/focus/${name}`, import.meta.url));
    const texts: string[] = [];
    for (let round = 0; round < 2; round++) {
      const backend = await openBackend({ connectionString: "sqlite://" });
      const given = { backend, dataset: "cost_entries", format: "focus" } as const;
      assertEquals((await importRecords(new Blob([file]), given)).rejected, 0);
      const exported = { backend, dataset: "cost_entries", focus: { version: focusVersion } } as const;
      texts.push(await new Response(await exportRecords({ ...exported, format: "focus" })).text());
      file = await new Response(await exportRecords({ ...exported, format: "parquet" })).bytes();
      await backend.close();
    }
    // Parquet holds decimals, not their trailing zeros.
    const [before, after] = texts.map((text) =>
      text.replaceAll(/(?<=\.\d*)0+(?=[,\n])|\.0*(?=[,\n])/g, "").split("\n")
    );
    assertEquals(after.filter((line, i) => line !== before[i]), []);
  }
});

Deno.test("importRecords() tells what is wrong with Parquet that is damaged", async () => {
  const whole = await Deno.readFile(new URL("cases/forms/types.parquet", import.meta.url));
  const options = {
    map: { timestamp: "ts_local", amount: "mid" },
    set: { category: "c", resourceId: "r", currency: "EUR" },
  };
  const cut = await refusal(() => imported(whole.slice(0, 900), options));
  assertEquals([cut[0], cut[1].includes("damaged or cut short")], ["INVALID_FILE", true]);
  const [code, message] = await refusal(() => imported({ file: "types-lz4.parquet" }, options));
  assertEquals([code, message.includes("LZ4")], ["UNSUPPORTED_FORMAT", true]);
  let seed = 7;
  for (let round = 0; round < 150; round++) {
    const bytes = whole.slice();
    for (let i = 0; i < 3; i++) {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      bytes[4 + seed % (bytes.length - 4)] = seed >> 8 & 0xff;
    }
    // Each is read, has bad rows, or is refused with a code; none ends in another error.
    await imported(bytes, options).catch((error) =>
      assert(typeof error.code === "string", String(error.stack))
    );
  }
});
