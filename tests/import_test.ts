import {
  type ImportOptions,
  importRecords,
  type ImportReport,
  openBackend,
  type Reject,
  TransferError,
} from "../mod.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { LineStream } from "../src/transfer/line_stream.ts";
import { parseTime } from "../src/transfer/values.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { countsOf, NEW_YEAR, TemporaryFolder, withoutDelivery } from "./fixtures.ts";

type Part = string | Uint8Array<ArrayBuffer>;

/** Content of a file in chunks of a number of bytes. */
function file(parts: Part[], chunkBytes = 65_536): ReadableStream<Uint8Array> {
  return ReadableStream.from((async function* () {
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    for (let i = 0; i < bytes.length; i += chunkBytes) yield bytes.subarray(i, i + chunkBytes);
  })());
}

async function gzip(text: string): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}

const LATIN1 = new Uint8Array([0x63, 0x61, 0x66, 0xe9]);

/** Imports a file into a memory backend; gives the report, the bad lines and what is stored. */
async function imported(
  parts: Part[],
  options: Partial<ImportOptions> = {},
): Promise<{ report: ImportReport; rejects: Reject[]; records: Record<string, unknown>[] }> {
  const backend = new MemoryBackend({ maxMemoryEntries: 100_000, onConflict: "ignore" });
  const rejects: Reject[] = [];
  const report = await importRecords(file(parts), {
    backend,
    dataset: "cost_entries",
    format: "csv",
    onReject: (reject) => rejects.push(reject),
    ...options,
  });
  const dataset = options.dataset === "system_metrics" ? systemMetrics : costEntries;
  const records = await read(backend, dataset as typeof costEntries) as unknown as Record<string, unknown>[];
  return { report: countsOf(report), rejects, records: withoutDelivery(records) };
}

const HEADER = "entryId,timestamp,resourceId,category,amount,currency\n";
const row = (id: string, amount = "1") => `${id},2026-01-01T00:00Z,gpu-01,gpu,${amount},USD\n`;
const lineOf = ({ line, reason }: Reject) => `${line}: ${reason}`;

// --- Lines

Deno.test("LineStream() finds the same lines in chunks of any size", async () => {
  const parts = ['\ufeff"a",b\r\n1,"x\ny""z"\r\n\r\n3,5" disk\n4,"no"pe\n', LATIN1, '\n5,"open\n6,7\n8,9'];
  for (const bytes of [1, 2, 3, 7, 1_000]) {
    const lines = (await Array.fromAsync(file(parts, bytes).pipeThrough(new LineStream({ isQuoted: true }))))
      .flat();
    assertEquals(lines.map(({ line, text, fault }) => [line, fault ?? text]), [
      [1, '"a",b'],
      [2, '1,"x\ny""z"'],
      [5, '3,5" disk'],
      [6, "A closing quote must be followed by a comma or the end of the line."],
      [7, "The line is not UTF-8. Convert the file, from Latin-1 by `iconv -f latin1 -t utf-8`."],
      [8, "A closing quote is missing."],
      [9, "6,7"],
      [10, "8,9"],
    ]);
  }
});

Deno.test("LineStream() skips a line of 50 MB in flat memory", async () => {
  const megabyte = new Uint8Array(2 ** 20).fill(120);
  let rounds = 0;
  const bytes = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (rounds === 0) controller.enqueue(new TextEncoder().encode("a,b\n1,"));
      else if (rounds <= 50) controller.enqueue(megabyte);
      else {
        controller.enqueue(new TextEncoder().encode("\n2,3\n"));
        controller.close();
      }
      rounds++;
    },
  });
  const lines = (await Array.fromAsync(bytes.pipeThrough(new LineStream({ isQuoted: true })))).flat();
  assertEquals(lines.map(({ line, fault }) => [line, fault]), [
    [1, undefined],
    [2, "The line is longer than 1048576 bytes."],
    [3, undefined],
  ]);
  assert(lines[1].text.length <= 1_000);
});

Deno.test("LineStream() continues after the first line of an unclosed quote", async () => {
  const bytes = file(['1,"open\n', `${"x".repeat(40)}\n`.repeat(3), '2,"b"\n']);
  const lines = (await Array.fromAsync(bytes.pipeThrough(new LineStream({ isQuoted: true, maxBytes: 64 }))))
    .flat();
  assertEquals(lines.map(({ line, fault }) => [line, fault]), [
    [1, "A closing quote is missing within 64 bytes."],
    [2, undefined],
    [3, undefined],
    [4, undefined],
    [5, undefined],
  ]);
});

// --- Values

Deno.test("parseTime() reads times of bills, in UTC when they have no zone", () => {
  const times: Record<string, string | undefined> = {
    "2024-09-18 22:00:00": "2024-09-18T22:00:00.000Z",
    "2023-11-13T10:00Z": "2023-11-13T10:00:00.000Z",
    "2023-11-13": "2023-11-13T00:00:00.000Z",
    "2023-11-13T10:00:01.123456789+05:30": "2023-11-13T04:30:01.123Z",
    "2023-11-13 10:00:00 UTC": "2023-11-13T10:00:00.000Z",
    "2023-11-13 10:00:00-0800": "2023-11-13T18:00:00.000Z",
    "1970-01-01T18:00+18:00": "1970-01-01T00:00:00.000Z",
    "2024-09-18T22:00+18:01": undefined,
    "2024-09-18T22:00+10:60": undefined,
    "2024-09-18T22:00-99:99": undefined,
    "0099-12-31T00:00:00Z": undefined,
    "2024-02-30": undefined,
    "2023-11-13T24:00": undefined,
    "13/11/2023": undefined,
    "NULL": undefined,
  };
  for (const [text, expected] of Object.entries(times)) {
    const ms = parseTime(text);
    assertEquals(ms === undefined ? undefined : new Date(ms).toISOString(), expected, text);
  }
});

Deno.test("parseTime() reads times in the form of toISOString() as any other", () => {
  const wrong = [
    "T24:00:00Z",
    "T10:60:00.000Z",
    "T10:00:60Z",
    "T10:00:0xZ",
    "T10:00:00.00xZ",
    "T10-00-00Z",
    "T1 :00:00Z",
    "T10:00:00,000Y",
    "T10:00:00.000z",
  ];
  for (const date of ["2024-02-29", "2024-02-29", "2026-11-30", "1000-01-01", "9999-12-31"]) {
    for (const clock of ["T00:00:00Z", "T23:59:59.999Z", "T09:08:07Z", "T10:20:30.045Z"]) {
      assertEquals(parseTime(date + clock), Date.parse(date + clock), date + clock);
    }
    assertEquals(parseTime(`${date} 10:20:30.045Z`), Date.parse(`${date}T10:20:30.045Z`));
    for (const clock of wrong) assertEquals(parseTime(date + clock), undefined, date + clock);
  }
  assertEquals(["2026-02-29T00:00:00Z", "2026-02-29T00:00:00Z"].map((text) => parseTime(text)), [
    undefined,
    undefined,
  ]);
});

Deno.test("importRecords() reads epoch times by their size and refuses unhyphenated dates", async () => {
  const times = ["1699869600000", "1699869600", "202409182200", "20240918220000", "169986960000000"];
  const { records, rejects } = await imported([
    HEADER,
    ...times.map((time, i) => `e${i},${time},r,c,1,USD\n`),
  ]);
  assertEquals(records.map(({ timestamp }) => timestamp), [1_699_869_600_000, 1_699_869_600_000]);
  assertEquals(rejects.map(({ line }) => line), [4, 5, 6]);
});

Deno.test("importRecords() keeps numbers in CSV tags as written", async () => {
  const tags =
    '{"account": 123456789012345678901, "v": 1.10, "in": {"e": [1E400, -0]}, "t": true, "n": null}';
  const { records } = await imported([
    HEADER.replace("amount", "tags,amount"),
    `e1,2026-01-01,r,c,"${tags.replaceAll('"', '""')}",1,USD\n`,
  ]);
  assertEquals(records[0].tags, {
    account: "123456789012345678901",
    v: "1.10",
    in: '{"e":[1E400,-0]}',
    t: "true",
    n: "null",
  });
  for (const noMap of ["1", "[1]", "null", "{"]) {
    const { rejects } = await imported([
      HEADER.replace("amount", "tags,amount"),
      `e1,2026-01-01,r,c,${noMap},1,USD\n`,
    ]);
    assertEquals(rejects.map(({ reason }) => reason.includes("tags must be a JSON object")), [true], noMap);
  }
});

// --- CSV

Deno.test("importRecords() accepts BOM, CRLF, quoted newlines and scientific notation", async () => {
  const { report, records } = await imported([
    "\ufeffentryId,timestamp,resourceId,category,amount,currency,description,tags\r\n",
    'e1,2023-11-13T10:00Z,r,gpu,8E-7,USD,"two\r\nlines, ""quoted""","{""team"": ""nlp"", ""n"": 1, ""t"": true}"\r\n',
    "e1,2023-11-13T11:00Z,r,gpu,-0.123456789012345678,USD,,\r\n", // ids repeat across intervals
    'e2,1699869600000,r,gpu,1,USD,"",{}\r\n',
  ]);
  assertEquals(report, { stored: 3, known: 0, restated: 0, rejected: 0 });
  assertEquals(records, [
    {
      entryId: "e1",
      timestamp: Date.UTC(2023, 10, 13, 10),
      resourceId: "r",
      category: "gpu",
      amount: "0.0000008",
      currency: "USD",
      description: 'two\r\nlines, "quoted"',
      tags: { team: "nlp", n: "1", t: "true" },
    },
    {
      entryId: "e2",
      timestamp: Date.UTC(2023, 10, 13, 10),
      resourceId: "r",
      category: "gpu",
      amount: "1",
      currency: "USD",
      description: "",
      tags: {},
    },
    {
      entryId: "e1",
      timestamp: Date.UTC(2023, 10, 13, 11),
      resourceId: "r",
      category: "gpu",
      amount: "-0.123456789012345678",
      currency: "USD",
    },
  ]);
});

Deno.test("importRecords() names bad lines and stores the others", async () => {
  const { report, rejects, records } = await imported([
    HEADER,
    row("a"),
    "b,2026-01-01,gpu-01,gpu\n",
    row("c", "1,5"),
    row("d", "NaN"),
    'e,yesterday,"gpu\n01",gpu,1,USD\n',
    "f,2026-01-01,,gpu,1,USD\n",
    LATIN1,
    ",2026-01-01,gpu,gpu,1,USD\n",
    "g,2026-01-01,gpu,gpu,1e30,USD\n",
    '"h,2026-01-01,gpu,gpu,1\n',
    row("i"),
  ]);
  assertEquals(rejects.map(lineOf), [
    "3: The line has 4 columns, and the first line 6.",
    "4: The line has 7 columns, and the first line 6.",
    '5: Cannot accept a cost entry: amount must be a decimal number or string, not "NaN".',
    "6: Cannot accept a cost entry: timestamp must be a time as in 2026-01-31T12:00:00Z, or in epoch " +
    'milliseconds, not "yesterday".',
    "8: Cannot accept a cost entry: resourceId must be given.",
    "9: The line is not UTF-8. Convert the file, from Latin-1 by `iconv -f latin1 -t utf-8`.",
    "10: Cannot accept a cost entry: amount must be a decimal with at most 18 digits before the point, " +
    'not "1e30".',
    "11: A closing quote is missing.",
  ]);
  assertEquals(records.map(({ entryId }) => entryId), ["a", "i"]);
  assertEquals(report, { stored: 2, known: 0, restated: 0, rejected: 8 });
  assertEquals(rejects[0].text, "b,2026-01-01,gpu-01,gpu");
});

Deno.test("importRecords() stops at the first bad line when isStrict is set", async () => {
  const error = await assertRejects(
    () => imported([HEADER, row("a"), row("b", "x"), row("c")], { isStrict: true }),
    TransferError,
    "line 3: Cannot accept a cost entry: amount",
  ) as TransferError;
  assertEquals(error.line, 3);
});

Deno.test("importRecords() refuses a file of something else and says why", async () => {
  const refused: [Part[], Partial<ImportOptions>, string][] = [
    [[""], {}, "the file is empty"],
    [[LATIN1, "\n1\n"], {}, "The line is not UTF-8."],
    [
      ["timestamp,resourceId,category,currency\n"],
      {},
      "there is no column amount. The columns are timestamp, resourceId, category, currency. Map one to the field (--map), or set the field (--set).",
    ],
    [[HEADER.replace("entryId", "timestamp")], {}, 'two columns are called "timestamp". Rename one.'],
    [
      [HEADER.replace("entryId", "entry")],
      {},
      'entry is no field. Rename the columns, or map those to import, as in --map FIELD="entry".',
    ],
    [[HEADER], { map: { amount: "Amont" } }, 'there is no column Amont for amount. Did you mean "amount"?'],
    [[HEADER], { idColumn: "Id" }, "there is no column Id for entryId. Use one of entryId, timestamp,"],
    [[HEADER], { map: { cost: "amount" } }, 'unknown field "cost"'],
    [[HEADER], { map: { "region.x": "amount" } }, 'unknown field "region.x". Did you mean "region"?'],
    [["ChargePeriodStart,BilledCost\n"], {}, "The file looks like FOCUS. Use --format focus."],
    [["ChargePeriodStart,BilledCost\n"], { format: "gcp" }, "The file looks like FOCUS. Use --format focus."],
    [
      ["lineItem/UsageStartDate,lineItem/UnblendedCost,lineItem/LineItemType\n"],
      { format: "gcp" },
      "The file looks like aws-cur. Use --format aws-cur.",
    ],
    [
      ["Date,Cost,Cur,What\n"],
      {},
      "there are no columns timestamp, resourceId, category, amount, currency. The columns are Date, Cost, Cur, What. " +
      "Map one to the field (--map), or set the field (--set). " +
      'Perhaps --map "timestamp=Date" --map "amount=Cost" --map "currency=Cur"?',
    ],
    [["# HELP up Up\n# TYPE up gauge\nup 1\n"], {}, "with --format prometheus"],
    [["-- PostgreSQL database dump\n\nSET x = 0;\n"], {}, "this looks like an SQL dump. Load it (`sqlite3 "],
    [["BEGIN TRANSACTION;\nCREATE TABLE a (b);\n"], {}, "`openfinops database migrate --from "],
    [
      ["ChargePeriodStart,BilledCost\n"],
      { format: "focus" },
      "ResourceId or ServiceName or ServiceCategory for resourceId",
    ],
    [
      ["ChargePeriodStart,BilledCost,ServiceName,BillingCurency\n"],
      { format: "focus" },
      'there is no column BillingCurrency for currency. Is it "BillingCurency"? Use --map "currency=BillingCurency", or',
    ],
    [[HEADER], { format: "focus", dataset: "system_metrics" }, "from FOCUS, which is for costs"],
  ];
  for (const [parts, options, expected] of refused) {
    await assertRejects(() => imported(parts, options), TransferError, expected);
  }
});

Deno.test("importRecords() stores nothing from a file with only a header", async () => {
  const notes: string[] = [];
  const { report } = await imported([HEADER], { onNote: (note) => notes.push(note) });
  assertEquals(report, { stored: 0, known: 0, restated: 0, rejected: 0 });
  assertEquals(notes, ["the file has no rows"]);
});

Deno.test("importRecords() notes times in the future and amounts that become 0", async () => {
  const notesOf = async (text: string, options: Partial<ImportOptions> = {}) => {
    const notes: string[] = [];
    const { report } = await imported([text], { onNote: (note) => notes.push(note), ...options });
    assertEquals(report.rejected, 0);
    return notes;
  };
  const costs = (...rows: string[]) =>
    `timestamp,resourceId,category,amount,currency,listCost\n${rows.join("\n")}\n`;
  assertEquals(
    await notesOf(costs(
      "2026-01-01,r,c,1e-19,USD,-0.0000000000000000001",
      "9026-01-01,r,c,1,USD,",
      "9026-01-02T03:00Z,r,c,-4e-19,USD,0e5",
    )),
    [
      "2 records are in the future, such as 9026-01-01T00:00:00.000Z in line 3. Check the unit and the format of times",
      "3 numbers are stored as 0, such as 1e-19 in line 2: 18 digits after the point are kept",
    ],
  );
  assertEquals(await notesOf(costs("2026-01-01,r,c,1e-16,USD,1"), { scale: { amount: "0.001" } }), [
    "1 number is stored as 0, such as 1e-19 in line 2: 18 digits after the point are kept",
  ]);
  // Zeros, the smallest amount, and the rest of the month: vendors bill it ahead.
  const now = new Date();
  const end = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1) - 1).toISOString();
  assertEquals(await notesOf(costs(`${end},r,c,-0.00,USD,1e-18`, "2026-01-01,r,c,0e9,USD,6e-19")), []);
  const metrics = `timestamp,cpuUsage\n${new Date(Date.now() + 40 * 3_600_000).toISOString()},1\n`;
  assertMatch((await notesOf(metrics, { dataset: "system_metrics" })).join(), /^1 record is in the future, /);
});

Deno.test("importRecords() names the option or the form for a date or an amount it cannot read", async () => {
  const cases: [time: string, amount: string, expected: string][] = [
    ["01/02/2026", "1", "use --date-format DD/MM/YYYY or MM/DD/YYYY,"],
    ["31.01.26", "1", "use --date-format DD.MM.YY,"],
    ["01-31-2026", "1", "use --date-format MM-DD-YYYY,"],
    ["2026/01/31", "1", "use --date-format YYYY/MM/DD,"],
    ["2026-02-30", "1", "in epoch milliseconds, not"], // no format helps
    ["2016-12-31T23:59:60Z", "1", "in epoch milliseconds, not"],
    ["2026-01-31", "$7", "a number without currency sign,"],
    ["2026-01-31", "(5.00)", "a number as in -5.00, not in parentheses,"],
  ];
  for (const [time, amount, expected] of cases) {
    const text = `timestamp,amount,currency,resourceId,category\n${time},${amount},USD,r,c\n`;
    await assertRejects(() => imported([text], { isStrict: true }), Error, expected);
  }
});

Deno.test("importRecords() maps columns, tags and constants and ignores other columns", async () => {
  const { records } = await imported(
    ["Id,Start,Cost,What,resourceTags/user:team,Env,Other\n", "1,2026-01-01T00:00Z,2.50,vm-1,nlp,,x\n"],
    {
      map: {
        timestamp: "Start",
        amount: "Cost",
        resourceId: "What",
        "tags.team": "resourceTags/user:team",
        "tags.env": "Env",
      },
      set: { category: "compute", currency: "EUR", "tags.source": "csv" },
      idColumn: "Id",
    },
  );
  assertEquals(records, [{
    entryId: "1",
    timestamp: NEW_YEAR,
    resourceId: "vm-1",
    category: "compute",
    amount: "2.5",
    currency: "EUR",
    tags: { team: "nlp", source: "csv" },
  }]);
});

// --- The same again

Deno.test("importRecords() changes nothing when costs are imported again in any order", async () => {
  const lines = [row("", "1"), row("", "2"), row("", "1")];
  await using backend = await openDisposable();
  const options = { backend, dataset: "cost_entries", format: "csv" } as const;
  const first = await importRecords(file([HEADER, ...lines]), options);
  assertEquals(countsOf(first), { stored: 3, known: 0, restated: 0, rejected: 0 }); // two of them are the same, and both count
  const second = await importRecords(file([HEADER, ...lines.toReversed()]), options);
  assertEquals(countsOf(second), { stored: 0, known: 3, restated: 0, rejected: 0 });
});

Deno.test("importRecords() changes nothing when metrics are imported again", async () => {
  const text = "timestamp,cpuUsage\n" + "2026-01-01T00:00Z,0.1\n".repeat(12_000);
  await using backend = await openDisposable();
  for (const [stored, known] of [[12_000, 0], [0, 12_000]]) {
    const report = await importRecords(file([text]), { backend, dataset: "system_metrics", format: "csv" });
    assertEquals(report, { stored, known, restated: 0, rejected: 0 });
  }
  assertEquals((await backend.stats()).datasets.system_metrics.rows, 12_000);
});

Deno.test("importRecords() stores the rest when an earlier import was interrupted", async () => {
  const text = "timestamp,activeConnections\n" +
    Array.from({ length: 25_000 }, (_, i) => `2026-01-01T00:00Z,${i}\n`).join("");
  const packed = await gzip(text);
  await using backend = await openDisposable();
  const options = { backend, dataset: "system_metrics", format: "csv" } as const;
  const error = await assertRejects(
    () => importRecords(file([packed.slice(0, packed.length * 0.7)], 1_000), options),
    TransferError,
    "the gzip file is damaged or cut short (unexpected end of file). Fetch it again.",
  ) as TransferError;
  const known = Number(/ (\d+) records before it are stored\.$/.exec(error.message)![1]);
  assert(known > 0 && known < 25_000);
  const report = await importRecords(file([packed]), options);
  assertEquals(report, { stored: 25_000 - known, known, restated: 0, rejected: 0 });
  const numbers = new Set(
    (await read(backend, systemMetrics)).map(({ activeConnections }) => activeConnections),
  );
  assertEquals(numbers.size, 25_000);
});

Deno.test("importRecords() recognizes gzip with several members", async () => {
  const { report } = await imported([await gzip(HEADER + row("a")), await gzip(row("b"))]);
  assertEquals(report.stored, 2);
});

Deno.test("importRecords() closes the file when it stops early", async () => {
  using folder = new TemporaryFolder();
  const text = HEADER + row("a", "x") + row("b").repeat(100_000);
  for (const bytes of [new TextEncoder().encode(text), await gzip(text)]) {
    Deno.writeFileSync(folder.file("f"), bytes);
    const { readable } = await Deno.open(folder.file("f"));
    await using backend = await openDisposable();
    const options = { backend, dataset: "cost_entries", format: "csv", isStrict: true } as const;
    await assertRejects(() => importRecords(readable, options), TransferError, "line 2");
  }
});

async function openDisposable() {
  const backend = await openBackend({ connectionString: "sqlite://" });
  return Object.assign(backend, { [Symbol.asyncDispose]: () => backend.close() });
}

// --- NDJSON

Deno.test("importRecords() reads NDJSON numbers to the last digit", async () => {
  const { records, rejects } = await imported([
    '{"entryId":"a","timestamp":"2026-01-01T00:00:00Z","resourceId":"r","category":"c","amount":0.123456789012345678}\n',
    '{"entryId":"b","timestamp":1767225600000,"resource_id":"r","category":"c","amount":-1e-18,"region":null}\r\n',
    '{"entryId":"c","timestamp":1767225600000,"resourceId":"r","category":"c","amount":1,"regoin":"eu"}\n',
    '{"entryId":\n',
    "[1]\n",
  ], { format: "ndjson" });
  assertEquals(records.map(({ amount }) => amount), ["0.123456789012345678", "-0.000000000000000001"]);
  assertEquals(rejects.map(({ line }) => line), [3, 4, 5]);
  assert(rejects[0].reason.includes('unknown field "regoin". Did you mean "region"?'), rejects[0].reason);
});

Deno.test("importRecords() rejects a line without an id when an id column is set", async () => {
  const csv = await imported([HEADER.replace("entryId", "Id"), row(""), row("a")], { idColumn: "Id" });
  assertEquals(csv.records.map(({ entryId }) => entryId), ["a"]);
  assertEquals(csv.rejects.map(lineOf), [
    "2: Cannot accept a cost entry: entryId must be given in the column Id, not null.",
  ]);
  const cost = { timestamp: NEW_YEAR, resourceId: "r", category: "c", amount: 1, currency: "USD" };
  const lines = [{ Id: "a", ...cost }, { Id: null, ...cost }, cost].map((line) =>
    `${JSON.stringify(line)}\n`
  );
  const options = { format: "ndjson", idColumn: "Id" } as const;
  const ndjson = await imported(lines, options);
  assertEquals(ndjson.records.map(({ entryId }) => entryId), ["a"]);
  assertEquals(ndjson.rejects.map(({ line }) => line), [2, 3]);
});

Deno.test("importRecords() refuses NDJSON when no line has a mapped column", async () => {
  const lines = '{"timestamp":1767225600000,"value":1}\n{"timestamp":1767225600001,"cpu":null}\n';
  const options = { dataset: "system_metrics", format: "ndjson" } as const;
  const maps: Record<string, string>[] = [
    { cpuUsage: "vlaue" },
    { "labels.team": "Team", cpuUsage: "value" },
  ];
  for (const map of maps) {
    await assertRejects(
      () => imported([lines], { ...options, map }),
      TransferError,
      `Cannot import all: No line has ${
        Object.values(map)[0]
      }. Correct the map. 0 records before it are stored.`,
    );
  }
  for (const parts of [[lines], [""]]) await imported(parts, { ...options, map: { cpuUsage: "cpu" } });
  const set = { cpuUsage: "2" };
  const { report } = await imported([lines], { ...options, map: { cpuUsage: "vlaue" }, set });
  assertEquals(report.stored, 2);
});

Deno.test("importRecords() ends with an error when an id has different costs", async () => {
  const parts = [
    HEADER.replace("entryId", "Id"),
    row("a"),
    row("b"),
    row("a", "1.0"),
    row("a", "2"),
    row("b"),
  ];
  await assertRejects(
    () => imported(parts, { idColumn: "Id" }),
    TransferError,
    'Cannot import all: "a" in Id stands for several costs of 2026-01-01T00:00:00.000Z. Choose an id column that ' +
      "tells them apart. 2 records are stored, 2 are known, 1 with other content are not stored.",
  );
  const same = await imported(parts.toSpliced(4, 1), { idColumn: "Id" });
  assertEquals(same.report, { stored: 2, known: 2, restated: 0, rejected: 0 });
  const backend = new MemoryBackend({ maxMemoryEntries: 100, onConflict: "replace" });
  const restated = await imported([...parts.slice(0, 3), parts[5]], { idColumn: "Id", backend });
  assertEquals(restated.report, { stored: 2, known: 1, restated: 0, rejected: 0 });
});

// --- FOCUS

/** As the clouds write them: no zone, NULL written out, amounts with needless zeros, true repeats. */
const FOCUS = [
  "BilledCost,EffectiveCost,BillingCurrency,BillingPeriodStart,ChargeDescription,ChargePeriodStart,RegionId,ResourceId,ServiceCategory,ServiceName,Tags,Id\n",
  '0.00000080000,0.5,"USD","2024-09-01 00:00:00","SQS","2024-09-18 22:00:00","us-west-2","arn:1","Integration","SQS",NULL,1\n',
  '-1.50000000000,0,"USD","2024-09-01 00:00:00",NULL,"2024-09-18 22:00:00",NULL,NULL,"Compute","EC2","{""test"": "",NULL,NULL,"", ""n"": null}",2\n',
  '0.1,0,EUR,2024-09-15T00:00:00Z,,2024-09-18T22:00:00Z,"",,,Tax,,3\n',
  '0.1,0,EUR,2024-09-15T00:00:00Z,,2024-09-18T22:00:00Z,"",,,Tax,,3\n',
];

Deno.test("importRecords() reads FOCUS files of cloud providers", async () => {
  const { records, report } = await imported(FOCUS, { format: "focus" });
  assertEquals(report, { stored: 4, known: 0, restated: 0, rejected: 0 });
  const timestamp = Date.UTC(2024, 8, 18, 22);
  const lineOf = ({ focus }: { focus?: Record<string, string> }) => Number(focus!.Id);
  const byLine = records.toSorted((a, b) => lineOf(a) - lineOf(b));
  assertEquals(byLine.map(({ entryId: _, ...rest }) => rest), [
    {
      timestamp,
      resourceId: "arn:1",
      category: "Integration",
      amount: "0.0000008",
      currency: "USD",
      region: "us-west-2",
      description: "SQS",
      billingPeriod: "2024-09",
      billingPeriodStart: Date.UTC(2024, 8),
      effectiveCost: "0.5",
      serviceName: "SQS",
      focus: { Id: "1", Tags: "" }, // the columns that are null in the first row
    },
    {
      timestamp,
      resourceId: "EC2",
      category: "Compute",
      amount: "-1.5",
      currency: "USD",
      tags: { test: ",NULL,NULL,", n: "null" },
      billingPeriod: "2024-09",
      billingPeriodStart: Date.UTC(2024, 8),
      effectiveCost: "0",
      serviceName: "EC2",
      focus: { Id: "2", ResourceId: "", Tags: '{"test": ",NULL,NULL,", "n": null}' },
    },
    ...[1, 2].map(() => ({
      timestamp,
      resourceId: "Tax",
      category: "Tax",
      amount: "0.1",
      currency: "EUR",
      billingPeriod: "2024-09-15",
      billingPeriodStart: Date.UTC(2024, 8, 15),
      effectiveCost: "0",
      serviceName: "Tax",
      focus: { Id: "3", ResourceId: "", ServiceCategory: "" },
    })),
  ]);
});

Deno.test("importRecords() reads the FOCUS amount and id from chosen columns", async () => {
  const { records, report } = await imported(FOCUS, {
    format: "focus",
    idColumn: "Id",
    costColumn: "EffectiveCost",
  });
  assertEquals(records.map(({ entryId, amount }) => [entryId, amount]), [["1", "0.5"], ["2", "0"], [
    "3",
    "0",
  ]]);
  assertEquals(report.known, 1);
});

Deno.test("importRecords() rejects a FOCUS line without currency unless one is set", async () => {
  const lines = ["USD", "NULL", "", '""', "EUR"].map((currency) =>
    `2024-09-18T22:00:00Z,1,Tax,${currency}\n`
  );
  const parts = ["ChargePeriodStart,BilledCost,ServiceName,BillingCurrency\n", ...lines];
  const { records, rejects } = await imported(parts, { format: "focus" });
  assertEquals(records.map(({ currency }) => currency).sort(), ["EUR", "USD"]);
  const refused = "Cannot accept a cost entry: currency must be given in the column BillingCurrency, " +
    "not";
  assertEquals(rejects.map(lineOf), [`3: ${refused} null.`, `4: ${refused} null.`, `5: ${refused} "".`]);
  const without = [parts[0].replace("Currency", "Account"), ...lines];
  for (const file of [parts, without]) {
    const { records } = await imported(file, { format: "focus", set: { currency: "SEK" } });
    const expected = file === parts ? ["USD", "SEK", "SEK", "SEK", "EUR"] : Array(5).fill("SEK");
    assertEquals(records.map(({ currency }) => currency).sort(), expected.toSorted());
  }
});
