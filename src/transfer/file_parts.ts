/**
 * Parts of a file that have rows: the file itself, unpacked, or each member of a zip file.
 *
 * @module
 */
import { damaged, decompress, RatioLimit, takeHead } from "./decompress.ts";
import { fileKind, foreignFile, HEAD_BYTES } from "./file_kind.ts";
import { isManifest, MANIFEST_SKIPPED } from "./manifest.ts";
import { holdStream, type RandomAccess } from "./random_access.ts";
import { TransferError } from "./transfer_error.ts";

/** Bytes of a file that can be imported: a stream, or one that can be read at any place, such as a `Blob`. */
export type FileInput = ReadableStream<Uint8Array> | RandomAccess;

export interface FilePart {
  /** Name of the member of a zip file. */
  readonly member?: string;
  /** Text in UTF-8. */
  readonly text?: ReadableStream<Uint8Array>;
  readonly parquet?: RandomAccess;
}

/** Packed files within packed files. */
const MAX_DEPTH = 2;
/** Members of documents of Excel and other office programs. */
const OFFICE = /^(\[Content_Types\]\.xml$|mimetype$|xl\/|word\/)/;
/** Members that macOS adds. */
const CLUTTER = /(^|\/)(__MACOSX\/|\.DS_Store$|\._)/;

/** Options of {@linkcode openParts}. */
interface PartsOptions {
  readonly onNote?: (note: string) => void;
  readonly member?: string;
  readonly depth?: number;
}

/**
 * Opens the parts of a file, one by one.
 *
 * @throws {TransferError} If a part is damaged, or none that can be read; the error names what it seems to be.
 */
export async function* openParts(input: FileInput, options: PartsOptions = {}): AsyncGenerator<FilePart> {
  const { member, depth = 0 } = options;
  const isStream = input instanceof ReadableStream;
  const { head, whole } = await takeHead(isStream ? input : input.stream(), HEAD_BYTES);
  const kind = fileKind(head);
  const hold = async () => {
    if (isStream) return await holdStream(whole);
    await whole.cancel();
    return input;
  };
  if (kind === "text") yield { member, text: whole };
  else if (kind === "utf-16le" || kind === "utf-16be") yield { member, text: toUtf8(whole, kind) };
  else if (kind === "parquet") yield { member, parquet: await hold() };
  else if (depth === MAX_DEPTH) throw foreignFile("a packed file in a packed file", "Unpack it first");
  else if (kind === "zip") yield* zipParts(await hold(), { ...options, depth: depth + 1 });
  else yield* openParts(decompress(whole, kind), { ...options, depth: depth + 1 });
}

function toUtf8(bytes: ReadableStream<Uint8Array>, encoding: string): ReadableStream<Uint8Array> {
  const decoder = new TextDecoder(encoding, { fatal: true });
  const utf8 = new TextEncoder();
  return ReadableStream.from((async function* () {
    try {
      for await (const chunk of bytes) yield utf8.encode(decoder.decode(chunk, { stream: true }));
      yield utf8.encode(decoder.decode());
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new TransferError(
        `the file is not ${encoding.toUpperCase()} as its first bytes say. Save it as UTF-8.`,
        {
          code: "INVALID_FILE",
        },
      );
    }
  })());
}

/** Bytes of a zip file that are read at a time. All they become, up to 1,032 times as much, is in memory at once. */
const ZIP_CHUNK_BYTES = 2 ** 14;

/** The part of `@zip.js/zip.js` that is used here. */
interface ZipModule {
  configure(options: { useWebWorkers: boolean; chunkSize: number }): void;
  Reader: new () => object;
  ZipReader: new (
    reader: object,
  ) => { getEntriesGenerator(): AsyncIterable<ZipEntry>; close(): Promise<void> };
}

/** A member of a zip file. */
interface ZipEntry {
  readonly filename: string;
  readonly directory: boolean;
  readonly encrypted: boolean;
  getData(writable: WritableStream<Uint8Array>, options: { checkSignature: boolean }): Promise<unknown>;
}

async function* zipParts(file: RandomAccess, options: PartsOptions): AsyncGenerator<FilePart> {
  const zip = await import("@zip.js/zip.js") as unknown as ZipModule;
  zip.configure({ useWebWorkers: false, chunkSize: ZIP_CHUNK_BYTES });
  class FileReader extends zip.Reader {
    size = file.size;
    async readUint8Array(start: number, length: number): Promise<Uint8Array> {
      return new Uint8Array(await file.slice(start, start + length).arrayBuffer());
    }
  }
  const limit = new RatioLimit();
  limit.packed = file.size;
  const reader = new zip.ZipReader(new FileReader());
  let count = 0;
  for await (const entry of zipEntries(reader.getEntriesGenerator())) {
    const { filename: name, directory, encrypted } = entry;
    if (OFFICE.test(name)) {
      throw foreignFile("an Office document, such as an Excel workbook", "Export it as CSV");
    }
    if (directory || CLUTTER.test(name)) continue;
    const member = options.member === undefined ? name : `${options.member}/${name}`;
    if (isManifest(name)) {
      options.onNote?.(`${member}: ${MANIFEST_SKIPPED}`);
      continue;
    }
    if (encrypted) throw foreignFile("an encrypted zip file", "Unpack it first");
    yield* openParts(memberBytes(entry, limit), { ...options, member });
    count++;
  }
  await reader.close();
  if (count === 0) throw new TransferError("the zip file has no files.", { code: "INVALID_FILE" });
}

async function* zipEntries(entries: AsyncIterable<ZipEntry>): AsyncGenerator<ZipEntry> {
  try {
    yield* entries;
  } catch (error) {
    throw error instanceof TransferError ? error : damaged("zip", (error as Error).message);
  }
}

/** The bytes of a member, checked against its checksum. */
function memberBytes(entry: ZipEntry, limit: RatioLimit): ReadableStream<Uint8Array> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      limit.add(chunk.length);
      controller.enqueue(chunk);
    },
  });
  const done = entry.getData(writable, { checkSignature: true });
  done.catch((error) => writable.abort(error).catch(() => {}));
  return ReadableStream.from((async function* () {
    try {
      yield* readable;
      await done;
    } catch (error) {
      throw error instanceof TransferError ? error : damaged("zip", (error as Error).message);
    }
  })());
}
