import { formatCsv, readCsvLine } from "../src/transfer/csv.ts";
import { type Line, LineStream } from "../src/transfer/line_stream.ts";
import { assertEquals } from "./assert.ts";

/** The lines of a file that arrives in pieces of so many bytes. */
async function linesOf(
  file: string | Uint8Array<ArrayBuffer>,
  isQuoted: boolean,
  pieceLength: number,
  maxBytes?: number,
): Promise<Line[]> {
  const bytes = typeof file === "string" ? new TextEncoder().encode(file) : file;
  const pieces = Array.from(
    { length: Math.ceil(bytes.length / pieceLength) },
    (_, i) => bytes.slice(i * pieceLength, (i + 1) * pieceLength),
  );
  const lines = ReadableStream.from(pieces).pipeThrough(new LineStream({ isQuoted, maxBytes }));
  return (await Array.fromAsync(lines)).flat();
}

/** Cells, each with nothing but one character that means something in CSV, and cells with it among others. */
const CELLS = [
  "\r",
  "\n",
  '"',
  ",",
  "",
  "\r\n",
  '""',
  '","',
  "a\rb",
  'a"b',
  "a,b",
  "a\nb",
  '"a',
  "a\r",
  " ",
  "a",
];

Deno.test("formatCsv() quotes a cell that is empty or has a lone CR, LF, quote or comma", () => {
  const quoted = ["\r", "\n", ",", "", "a\rb", "a,b", "a\nb"];
  for (const cell of quoted) assertEquals(formatCsv([cell, undefined, "x"]), `"${cell}",,x`);
  assertEquals(formatCsv(['"', 'a"b']), '"""","a""b"'); // RFC 4180
  assertEquals(formatCsv([" ", "a ", " a"]), '" ","a "," a"'); // a reader may trim what has no quotes
  assertEquals(formatCsv(["a b", "a'b", "a;b", "a\tb"]), "a b,a'b,a;b,a\tb");
});

Deno.test("readCsvLine() gives back each cell that formatCsv() writes, at any place of a line", () => {
  for (const cell of CELLS) {
    for (const cells of [[cell], [cell, "x"], ["x", cell], ["x", cell, "y"], [cell, cell]]) {
      assertEquals(readCsvLine(formatCsv(cells)), cells, JSON.stringify(cells));
    }
  }
  assertEquals(readCsvLine(","), [null, null]);
  assertEquals(readCsvLine('"",'), ["", null]);
});

Deno.test("LineStream gives back lines of CSV with any cell, however the bytes arrive", async () => {
  const lines = CELLS.map((cell) => formatCsv(["x", cell, "y"]));
  for (const end of ["\n", "\r\n"]) {
    for (const pieceLength of [1, 2, 3, 7, 1_000]) {
      const found = await linesOf(lines.join(end) + end, true, pieceLength);
      assertEquals(found.map(({ text }) => text), lines, `${JSON.stringify(end)}, ${pieceLength}`);
      assertEquals(found.filter(({ fault }) => fault !== undefined), []);
    }
  }
});

Deno.test("LineStream finds in a whole file the lines and faults that it finds byte by byte", async () => {
  const parts = [
    '"',
    '"',
    ",",
    ",",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "a",
    "bc",
    '""',
    ',"d"',
    "\uFEFF",
    "ü",
    "€",
    "😀",
  ]
    .map((text) => new TextEncoder().encode(text));
  parts.push(Uint8Array.of(0xfc), Uint8Array.of(0xe2, 0x82)); // Latin-1, and the start of a character
  let state = 1;
  const next = (below: number) => (state = state * 48_271 % 0x7fff_ffff) % below;
  for (let round = 0; round < 600; round++) {
    // Most files are free of what is not UTF-8: such a byte ends the search in a text.
    const choice = round % 3 === 0 ? parts.length : parts.length - 2;
    const pieces = Array.from({ length: 1 + next(60) }, () => parts[next(choice)]);
    const bytes = Uint8Array.from(pieces.flatMap((piece) => [...piece]));
    const isQuoted = round % 4 !== 0;
    const maxBytes = round % 5 === 0 ? 12 : undefined;
    const expected = await linesOf(bytes, isQuoted, 1, maxBytes);
    for (const pieceLength of [5, 1_000]) {
      const found = await linesOf(bytes, isQuoted, pieceLength, maxBytes);
      assertEquals(found, expected, `round ${round}, ${pieceLength}: ${new TextDecoder().decode(bytes)}`);
    }
  }
});

Deno.test("LineStream ends no line at a lone CR, and takes CR LF for one end", async () => {
  for (const isQuoted of [true, false]) {
    const found = await linesOf("a\rb,c\r\nd\r\r\n\re\n", isQuoted, 2);
    assertEquals(found, [
      { line: 1, text: "a\rb,c" },
      { line: 2, text: "d\r" },
      { line: 3, text: "\re" },
    ]);
  }
});

Deno.test("LineStream takes a quote within a cell for text, and refuses text after a closing quote", async () => {
  assertEquals(await linesOf('a"b,c\n', true, 3), [{ line: 1, text: 'a"b,c' }]);
  const [first, second] = await linesOf('"a"b,c\nd\n', true, 3);
  assertEquals([first.line, first.fault], [
    1,
    "A closing quote must be followed by a comma or the end of the line.",
  ]);
  assertEquals(second, { line: 2, text: "d" });
  // In NDJSON a quote hides nothing.
  assertEquals((await linesOf('"a\nb"\n', false, 3)).map(({ text }) => text), ['"a', 'b"']);
});
