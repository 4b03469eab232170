import { assertEquals } from "./assert.ts";

const TEXT = Deno.readTextFileSync(new URL("../docs/scaling.md", import.meta.url));

/** A value of the table of what was measured. */
function measured(name: string): number {
  return Number(new RegExp(`^\\| \`${name}\` +\\| +([\\d.]+) \\|`, "m").exec(TEXT)![1]);
}

const DISK_OF_SERVER = 4e12;
const CORES = 8 * 0.5;
const comma = (value: number) => Math.round(value).toLocaleString("en");

/** A row of the results, by the formula of the document. */
function row(nodes: number): string[] {
  const records = nodes * 9 / 15;
  const batches = nodes * 2 / 60;
  const disk = nodes / 15 * (measured("systemBytes") + 8 * measured("deviceBytes")) * 86_400;
  const direct = batches * measured("coordinatorBatchMs") / 1e3;
  const combined = records * measured("coordinatorRecordUs") / 1e6;
  const serve = records * measured("serveRecordUs") / 1e6;
  const workers = records * measured("workerRecordUs") / 1e6;
  const answer = nodes * 86_400 / 15 * measured("scanUs") / 1e6;
  const places = nodes === 1_000 ? 3 : 2;
  return [
    comma(nodes),
    comma(records),
    comma(batches),
    `${comma(disk / 1e9)} GB`,
    direct.toFixed(2),
    combined.toFixed(places),
    serve.toFixed(places),
    workers.toFixed(places),
    String(Math.ceil(Math.max(disk * 90 / DISK_OF_SERVER, workers / CORES))),
    answer < 10 ? answer.toFixed(1) : comma(answer),
  ];
}

Deno.test("docs/scaling.md has the results of its formula", () => {
  const rows = TEXT.split("\n").filter((line) => /^\| [\d,]+ +\|/.test(line))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  assertEquals(rows, [1_000, 10_000, 100_000].map(row));
});

Deno.test("docs/scaling.md has the limits of a coordinator that follow from its formula", () => {
  const batches = CORES / measured("coordinatorBatchMs") * 1e3;
  const nodes = Math.floor(batches * 60 / 2 / 100) * 100;
  const expected = `Half of 8 cores takes ${comma(Math.floor(batches))} small batches a second, which are ${
    comma(nodes)
  } nodes`;
  assertEquals(TEXT.replaceAll(/\s+/g, " ").includes(expected), true, expected);
});

Deno.test("docs/scaling.md has the limit of a server that follows from its formula", () => {
  const records = 0.5 / measured("serveRecordUs") * 1e6;
  const tens = Math.round(records / 10) * 10;
  const nodes = Math.floor(records * 15 / 9 / 100) * 100;
  const expected = `half of it takes ${comma(tens)} records a second, which are ${comma(nodes)} nodes`;
  assertEquals(TEXT.replaceAll(/\s+/g, " ").includes(expected), true, expected);
});
