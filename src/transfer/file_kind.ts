/**
 * Detection of the kind of a file by its first bytes.
 *
 * @module
 */
import { TransferError } from "./transfer_error.ts";

/** Kind of a file that can be read. */
export type FileKind = "text" | "utf-16le" | "utf-16be" | "gzip" | "zstd" | "zip" | "parquet";

/** Number of bytes that identify a file. */
export const HEAD_BYTES = 512;

/** First bytes of the kinds that can be read. */
const READABLE: readonly (readonly [kind: FileKind, hex: string])[] = [
  ["gzip", "1f8b"],
  ["zstd", "28b52ffd"],
  ["zip", "504b0304"],
  ["parquet", "50415231"],
  ["utf-16le", "fffe"],
  ["utf-16be", "feff"],
];

const EXPORT_AS_CSV = "Export it as CSV";
const UNPACK = "Unpack it first";

/** First bytes of files that people have and that cannot be read, where these are, what the file is, and what to do. */
const FOREIGN: readonly (readonly [name: string, hex: string, remedy: string, at?: number])[] = [
  ["an old Excel workbook", "d0cf11e0a1b11ae1", EXPORT_AS_CSV],
  ["a PDF", "25504446", "Download the bill as CSV"],
  ["an ORC file", "4f5243", EXPORT_AS_CSV],
  ["an Avro file", "4f626a01", EXPORT_AS_CSV],
  ["an encrypted Parquet file", "50415245", "Decrypt it first"],
  ["an Arrow file", "4152524f5731", EXPORT_AS_CSV],
  ["a Feather file", "46454131", EXPORT_AS_CSV],
  [
    "a SQLite database",
    "53514c69746520666f726d6174203300",
    "Use `openfinops database migrate --from sqlite:///FILE`",
  ],
  ["a DuckDB database", "4455434b", EXPORT_AS_CSV, 8],
  ["a bzip2 file", "425a68", UNPACK],
  ["an xz file", "fd377a585a00", UNPACK],
  ["a 7-Zip archive", "377abcaf271c", UNPACK],
  ["a RAR archive", "526172211a07", UNPACK],
  ["an LZ4 file", "04224d18", UNPACK],
  ["a Snappy file", "ff060000734e61507059", UNPACK],
  ["an empty zip file", "504b0506", "Fetch it again"],
  ["a tar archive", "7573746172", UNPACK, 257],
  ["a PNG image", "89504e47", EXPORT_AS_CSV],
  ["a JPEG image", "ffd8ff", EXPORT_AS_CSV],
];

/**
 * The kind of a file.
 *
 * @throws {TransferError} If it cannot be read; the error names what it seems to be.
 */
export function fileKind(head: Uint8Array): FileKind {
  const has = (hex: string, at = 0) => head.subarray(at, at + hex.length / 2).toHex() === hex;
  const found = READABLE.find(([, hex]) => has(hex));
  if (found) return found[0];
  // Without a byte order mark each second byte of a header is 0.
  if (/^([1-9a-f][0-9a-f]|0[9ad])00([1-9a-f][0-9a-f])00/.test(head.toHex())) return "utf-16le";
  if (/^00[2-7][0-9a-f]00[2-7][0-9a-f]/.test(head.toHex())) return "utf-16be";
  const foreign = FOREIGN.find(([, hex, , at]) => has(hex, at));
  if (foreign) throw foreignFile(foreign[0], foreign[2]);
  const text = new TextDecoder().decode(head).trimStart().toLowerCase();
  if (/^(<!doctype html|<html)/.test(text)) {
    throw foreignFile("a web page", "Download the file itself, signed in");
  }
  const statement = text.replace(/^(--.*\n?\s*)+/, "");
  if (
    /^(pragma \w+ *=|begin( transaction)?;|create table |insert into |set \w+ *=)/.test(statement) ||
    statement === "" && text
  ) {
    throw foreignFile(
      "an SQL dump",
      "Load it (`sqlite3 FILE.db < DUMP`), then use `openfinops database migrate --from sqlite:///FILE.db`",
    );
  }
  if (text.startsWith("<")) throw foreignFile("an XML file", EXPORT_AS_CSV);
  if (head.includes(0)) {
    const first = head.subarray(0, 4).toHex().replace(/..(?=.)/g, "$& ");
    const isText = /^[\t\n\r -~]{4}/.test(text);
    const found = isText ? `byte ${head.indexOf(0) + 1} is NUL` : `it begins with the bytes ${first}`;
    throw new TransferError(`the file is no text; ${found}. Export it as CSV.`, {
      code: "UNSUPPORTED_FORMAT",
    });
  }
  return "text";
}

/** The error for a file that cannot be read. */
export function foreignFile(name: string, remedy: string): TransferError {
  return new TransferError(`this looks like ${name}. ${remedy}.`, { code: "UNSUPPORTED_FORMAT" });
}
