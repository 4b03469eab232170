/**
 * The driver of DuckDB, loaded on demand, behind the few calls that are used here. Not `@duckdb/node-api`, which wraps each
 * value in an object: numbers are read and written in the memory of DuckDB.
 *
 * @module
 */
import { createRequire } from "node:module";
import { resolve } from "node:path";
import process from "node:process";
import { BackendError, messageOf } from "../../errors.ts";
import { importPackage } from "../../lazy_import.ts";
import { isGranted } from "../../permissions.ts";

/** The package. By version only: its native libraries have 140 MB, and most users have another backend. */
export const DUCKDB_PACKAGE = "@duckdb/node-bindings";
/** The version that is loaded. */
export const DUCKDB_VERSION = "1.5.6-r.1";

/** Opaque handle of the driver. */
export type Handle = { readonly _handle: never };

type Copy = (vector: Handle, offset: number, from: ArrayBuffer, start: number, bytes: number) => void;

/** The part of the driver that is used here. */
export interface DuckdbDriver {
  library_version(): string;
  create_config(): Handle;
  set_config(config: Handle, name: string, value: string): void;
  create_instance_cache(): Handle;
  get_or_create_from_cache(cache: Handle, path: string, config: Handle): Promise<Handle>;
  close_sync(database: Handle): void;
  connect(database: Handle): Promise<Handle>;
  disconnect_sync(connection: Handle): void;
  interrupt(connection: Handle): void;
  query(connection: Handle, sql: string): Promise<Handle>;
  rows_changed(result: Handle): number;
  column_count(result: Handle): number;
  column_type(result: Handle, column: number): number;
  result_chunk_count(result: Handle): number;
  result_get_chunk(result: Handle, index: number): Handle;
  create_logical_type(type: number): Handle;
  create_decimal_type(width: number, scale: number): Handle;
  create_map_type(key: Handle, value: Handle): Handle;
  create_data_chunk(types: readonly Handle[]): Handle;
  data_chunk_reset(chunk: Handle): void;
  data_chunk_get_vector(chunk: Handle, column: number): Handle;
  data_chunk_get_size(chunk: Handle): number;
  data_chunk_set_size(chunk: Handle, size: number): void;
  vector_get_data(vector: Handle, bytes: number): Uint8Array<ArrayBuffer>;
  vector_get_validity(vector: Handle, bytes: number): Uint8Array<ArrayBuffer> | null;
  vector_ensure_validity_writable(vector: Handle): void;
  copy_data_to_vector: Copy;
  copy_data_to_vector_validity: Copy;
  vector_assign_string_element(vector: Handle, index: number, text: string): void;
  list_vector_get_child(vector: Handle): Handle;
  list_vector_get_size(vector: Handle): number;
  list_vector_set_size(vector: Handle, size: number): void;
  list_vector_reserve(vector: Handle, capacity: number): void;
  struct_vector_get_child(vector: Handle, index: number): Handle;
  get_data_from_pointer(buffer: ArrayBuffer, offset: number, bytes: number): Uint8Array;
  appender_create(connection: Handle, schema: string | null, table: string): Handle;
  append_data_chunk(appender: Handle, chunk: Handle): void;
  appender_close_sync(appender: Handle): void;
}

/** Variable with the path of `duckdb.node`, the native library of the package: where Deno cannot load it from npm. */
const LIBRARY = "OPENFINOPS_DUCKDB";

let loading: Promise<DuckdbDriver> | undefined;

/**
 * Loads the driver.
 *
 * @throws {BackendError} If it cannot be loaded, with what to do.
 */
export async function loadDuckdbDriver(): Promise<DuckdbDriver> {
  if (!isGranted({ name: "ffi" })) {
    throw new Deno.errors.NotCapable("Requires ffi access, run again with the --allow-ffi flag");
  }
  return await (loading ??= load().catch((error) => {
    loading = undefined;
    throw error;
  }));
}

async function load(): Promise<DuckdbDriver> {
  const library = isGranted({ name: "env", variable: LIBRARY }) ? Deno.env.get(LIBRARY) : undefined;
  const attempts: (() => unknown)[] = library
    ? [() => createRequire(resolve(library))(resolve(library))]
    : [() => importPackage(`${DUCKDB_PACKAGE}@${DUCKDB_VERSION}`)];
  // A folder `node_modules` beside or above the current one: for one binary, which holds no native library.
  attempts.push(() => createRequire(`${Deno.cwd()}/`)(DUCKDB_PACKAGE));
  let failure: unknown;
  for (const attempt of attempts) {
    try {
      return await attempt() as DuckdbDriver;
    } catch (error) {
      failure ??= error;
    }
  }
  const [reason] = messageOf(failure).split("\n", 1);
  throw new BackendError(
    `Cannot load DuckDB: its native library cannot be loaded on ${process.platform}-${process.arch} (${reason}). ` +
      `${library ? `Correct ${LIBRARY}, or unset it. Else run` : "Run"} ` +
      `\`npm install ${DUCKDB_PACKAGE}@${DUCKDB_VERSION}\` in the current folder, or use another backend, as in ` +
      "sqlite:///openfinops.db.",
    { code: "DRIVER_MISSING", operation: "open", kind: "operator" },
  );
}
