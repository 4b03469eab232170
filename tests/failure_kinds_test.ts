/** Kinds of failures, which decide between retry, alarm, split and dead letter: by SQLSTATE, SQLite result and system error. */
import { DatabaseSync } from "node:sqlite";
import { BackendError, type ErrorCode, type FailureKind } from "../src/errors.ts";
import { asPostgresError } from "../src/backends/postgres/errors.ts";
import { asBackendError } from "../src/backends/sqlite/file.ts";
import { storageError } from "../src/pipeline/durable_file.ts";
import { assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";

type Row = readonly [signs: string, code: ErrorCode, kind: FailureKind];

/** The SQLSTATEs of appendix A of PostgreSQL's documentation: those that a session of ours can meet. */
const SQLSTATES: readonly Row[] = [
  // It passes by itself.
  ["08000 08001 08003 08004 08006 08007 08P01", "CONNECTION_LOST", "transient"],
  ["25P03", "TRANSACTION_ENDED", "transient"],
  ["40000 40001 40002 40003 40P01", "SERIALIZATION_FAILED", "transient"],
  ["53000", "SERVER_OVERLOADED", "transient"],
  ["53300", "TOO_MANY_CONNECTIONS", "transient"],
  ["55000 55006 55P02 55P03 55P04", "LOCKED", "transient"],
  ["57000", "BACKEND_FAILED", "unknown"], // a class of its own, without a state
  ["57P01 57P02 57P04 57P05", "SERVER_STOPPED", "transient"],
  ["57P03", "SERVER_STARTING", "transient"],
  ["58000 58030 58P01 58P02", "DISK_FAILED", "transient"],
  // It may succeed with less.
  ["25P04 57014", "STATEMENT_TIMEOUT", "timeout"],
  ["53200", "SERVER_LIMIT", "timeout"],
  ["53100", "DISK_FULL", "disk-full"],
  // The record is at fault.
  ["22000 22001 22003 22007 22008 22012 22021 22023 22P02 22P03 22P04 22P05", "DATA_REFUSED", "data"],
  ["23000 23502 23503 23505 23514 23P01 44000", "CONSTRAINT_VIOLATED", "data"],
  ["54000 54001 54011 54023 P0000 P0001 P0002 P0003 P0004", "DATA_REFUSED", "data"],
  // An operator must act.
  ["0A000", "SERVER_UNSUPPORTED", "operator"],
  ["25006", "READ_ONLY", "operator"],
  ["28000", "LOGIN_REFUSED", "operator"],
  ["28P01", "PASSWORD_REFUSED", "operator"],
  ["3D000", "DATABASE_NOT_FOUND", "operator"],
  ["3F000", "SCHEMA_NOT_FOUND", "operator"],
  ["42501", "PRIVILEGE_MISSING", "operator"],
  ["42P01", "TABLES_MISSING", "operator"],
  ["42P07", "TABLES_FOREIGN", "operator"],
  ["42000 42601 42703 42704 42710 42804 42883 42P10 42P17", "TABLES_ALTERED", "operator"],
  ["53400", "SERVER_LIMIT", "operator"],
  // The server's fault first, and a record's if others are stored meanwhile.
  ["72000 F0000 F0001 XX000 XX001 XX002", "SERVER_FAILED", "unknown"],
  [
    "03000 09000 0B000 0F000 0L000 0P000 0Z000 20000 21000 24000 25000 25001 25P01 25P02 26000 27000 2B000 " +
    "2D000 2F000 34000 38000 39000 3B000 HV000 ZZ001 99999 E0001",
    "BACKEND_FAILED",
    "unknown",
  ],
];

/** Codes of the driver, the network and Deno. The records were never reached. */
const SYSTEM_ERRORS: readonly Row[] = [
  [
    "ECONNRESET EPIPE CONNECTION_CLOSED CONNECTION_ENDED CONNECTION_DESTROYED",
    "CONNECTION_LOST",
    "transient",
  ],
  ["ECONNREFUSED", "CONNECTION_REFUSED", "transient"],
  ["ENOENT", "SOCKET_NOT_FOUND", "transient"],
  ["ENOTFOUND EAI_AGAIN", "HOST_NOT_FOUND", "transient"],
  ["EHOSTUNREACH ENETUNREACH", "HOST_UNREACHABLE", "transient"],
  ["ETIMEDOUT CONNECT_TIMEOUT", "CONNECTION_TIMEOUT", "transient"],
  ["EBUSY EMFILE", "BACKEND_FAILED", "transient"],
  ["EPERM NotCapable", "PERMISSION_MISSING", "operator"],
  ["TLS_REFUSED", "TLS_REFUSED", "operator"],
  ["TLS_FAILED", "TLS_FAILED", "operator"],
];

/** The text that SQLite has for each result code, and the messages of SQLITE_ERROR that openfinops can meet. */
const SQLITE_RESULTS: readonly [message: string, code: ErrorCode, kind: FailureKind][] = [
  ["database is locked", "LOCKED", "transient"], // BUSY
  ["database table is locked", "LOCKED", "transient"], // LOCKED
  ["locking protocol", "LOCKED", "transient"], // PROTOCOL: two processes open the log at once
  ["database schema has changed", "LOCKED", "transient"], // SCHEMA: another process changes it
  ["database or disk is full", "DISK_FULL", "disk-full"], // FULL
  ["disk I/O error", "DISK_FAILED", "disk-full"],
  ["constraint failed", "CONSTRAINT_VIOLATED", "data"], // CONSTRAINT
  ["CHECK constraint failed: sane", "CONSTRAINT_VIOLATED", "data"],
  ["NOT NULL constraint failed: system_metrics.cpu_usage", "CONSTRAINT_VIOLATED", "data"],
  ["datatype mismatch", "CONSTRAINT_VIOLATED", "data"], // MISMATCH
  ["string or blob too big", "CONSTRAINT_VIOLATED", "data"],
  ["attempt to write a readonly database", "ACCESS_DENIED", "operator"], // READONLY
  ["access permission denied", "ACCESS_DENIED", "operator"], // PERM
  ["database disk image is malformed", "NOT_A_DATABASE", "operator"], // CORRUPT
  ["file is not a database", "NOT_A_DATABASE", "operator"],
  ["unable to open database file", "FILE_FAILED", "operator"],
  ["no such table: system_metrics", "TABLES_ALTERED", "operator"], // ERROR
  ["no such column: cpu_usage", "TABLES_ALTERED", "operator"],
  ["table system_metrics has no column named cpu_usage", "TABLES_ALTERED", "operator"],
  ["table ledger already exists", "TABLES_ALTERED", "operator"],
  [
    'Requires write access to "a.db", run again with the --allow-write flag',
    "PERMISSION_MISSING",
    "operator",
  ],
  ["SQL logic error", "BACKEND_FAILED", "unknown"],
  ["out of memory", "BACKEND_FAILED", "unknown"], // NOMEM
  ["interrupted", "BACKEND_FAILED", "unknown"], // INTERRUPT
  ["query aborted", "BACKEND_FAILED", "unknown"], // ABORT
  ["unknown operation", "BACKEND_FAILED", "unknown"], // NOTFOUND
  ["bad parameter or other API misuse", "BACKEND_FAILED", "unknown"], // MISUSE
  ["large file support is disabled", "BACKEND_FAILED", "unknown"],
  ["authorization denied", "BACKEND_FAILED", "unknown"], // AUTH
  ["column index out of range", "BACKEND_FAILED", "unknown"], // RANGE
  ["not on a Sunday", "BACKEND_FAILED", "unknown"], // of a trigger
];

/** Errors of the file system of Linux, for the spool, dead letters and files. */
const FILE_ERRORS: readonly [message: string, code: ErrorCode, kind: FailureKind][] = [
  ["No space left on device (os error 28)", "DISK_FULL", "disk-full"], // ENOSPC
  ["Disk quota exceeded (os error 122)", "DISK_FULL", "disk-full"], // EDQUOT
  ["File too large (os error 27)", "DISK_FULL", "disk-full"], // EFBIG
  ["Permission denied (os error 13)", "ACCESS_DENIED", "operator"], // EACCES
  ["Operation not permitted (os error 1)", "ACCESS_DENIED", "operator"], // EPERM
  ["Read-only file system (os error 30)", "ACCESS_DENIED", "operator"], // EROFS
  ["Input/output error (os error 5)", "FILE_FAILED", "operator"], // EIO
  ["Too many open files (os error 24)", "FILE_FAILED", "operator"], // EMFILE
  ["/a/1.journal was removed, moved or changed while in use", "FILE_REPLACED", "operator"],
  ['Requires write access to "a", run again with the --allow-write flag', "PERMISSION_MISSING", "operator"],
];

const RETRYABLE: readonly FailureKind[] = ["transient", "disk-full", "timeout"];

function assertKind(error: BackendError, [sign, code, kind]: Row): void {
  assertEquals([sign, error.code, error.kind], [sign, code, kind]);
  assertEquals([sign, error.retryable], [sign, RETRYABLE.includes(kind)]);
}

const each = (rows: readonly Row[]) =>
  rows.flatMap(([signs, code, kind]) => signs.split(" ").map((sign): Row => [sign, code, kind]));

Deno.test("PostgreSQL failures have a code and a kind for each SQLSTATE", () => {
  for (const [sqlState, code, kind] of each(SQLSTATES)) {
    const cause = Object.assign(new Error("no"), { code: sqlState, severity: "ERROR" });
    const error = asPostgresError("write", "db", cause);
    assertKind(error, [sqlState, code, kind]);
    assertEquals(error.sqlState, sqlState);
  }
});

Deno.test("PostgreSQL failures of the network, the driver and Deno have a code and a kind", () => {
  for (const [name, code, kind] of each(SYSTEM_ERRORS)) {
    const cause = Object.assign(new Error("no"), { code: name, errno: -1, syscall: "connect" });
    const error = asPostgresError("open", "db", cause);
    assertKind(error, [name, code, kind]);
    assertEquals(error.sqlState, undefined);
  }
  const denied = Object.assign(new Error("Requires net access"), { name: "NotCapable" });
  assertKind(asPostgresError("open", "db", denied), ["NotCapable", "PERMISSION_MISSING", "operator"]);
  assertKind(asPostgresError("open", "db", new Error("odd")), ["none", "BACKEND_FAILED", "unknown"]);
});

Deno.test("PostgreSQL failures of triggers and of TimescaleDB have the kind of their cause", () => {
  const failure = (code: string, message: string, where = "") =>
    asPostgresError("write", "db", Object.assign(new Error(message), { code, severity: "ERROR", where }));
  const inTrigger = "PL/pgSQL function fail() line 1";
  assertKind(failure("42883", "no", inTrigger), ["42883 in a trigger", "TABLES_ALTERED", "unknown"]);
  assertKind(failure("42P01", "no", inTrigger), ["42P01 in a trigger", "TABLES_ALTERED", "unknown"]);
  const inCopy = "COPY system_metrics, line 1";
  assertKind(failure("42703", "no", inCopy), ["42703 in COPY", "TABLES_ALTERED", "operator"]);
  for (
    const [code, message] of [
      ["42P01", 'relation "_timescaledb_internal._hyper_1_2_chunk" does not exist'],
      ["P0001", "overlaps with existing range"],
      ["XX000", "tuple concurrently updated"],
      ["XX000", "tuple concurrently deleted"],
    ]
  ) assertKind(failure(code, message), [message, "SERIALIZATION_FAILED", "transient"]);
});

Deno.test("SQLite failures have a code and a kind for each result", () => {
  for (const [message, code, kind] of SQLITE_RESULTS) {
    assertKind(asBackendError("write", "a.db", new Error(message)), [message, code, kind]);
  }
});

Deno.test("SQLite failures of a real file have the messages that are known", () => {
  using folder = new TemporaryFolder();
  const path = folder.file("a.db");
  using database = new DatabaseSync(path);
  database.exec(
    "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL CHECK (b <> 'x')); PRAGMA busy_timeout = 0",
  );
  const kindOf = (sql: string, on = database) => {
    try {
      on.exec(sql);
    } catch (error) {
      return asBackendError("write", path, error).code;
    }
    return undefined;
  };
  assertEquals(kindOf("INSERT INTO t VALUES (1, 'x')"), "CONSTRAINT_VIOLATED");
  assertEquals(kindOf("INSERT INTO t VALUES (1, NULL)"), "CONSTRAINT_VIOLATED");
  assertEquals(kindOf("INSERT INTO t VALUES ('one', 'b')"), "CONSTRAINT_VIOLATED");
  assertEquals(kindOf("INSERT INTO t (c) VALUES (1)"), "TABLES_ALTERED");
  assertEquals(kindOf("SELECT c FROM t"), "TABLES_ALTERED");
  assertEquals(kindOf("SELECT 1 FROM u"), "TABLES_ALTERED");
  assertEquals(
    kindOf("PRAGMA max_page_count = 3; INSERT INTO t VALUES (1, hex(zeroblob(100000)))"),
    "DISK_FULL",
  );
  using reader = new DatabaseSync(path, { readOnly: true });
  assertEquals(kindOf("INSERT INTO t VALUES (2, 'b')", reader), "ACCESS_DENIED");
  using other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  assertEquals(kindOf("INSERT INTO t VALUES (2, 'b')"), "LOCKED");
  other.exec("ROLLBACK");
  Deno.writeTextFileSync(folder.file("b.db"), "no database ".repeat(1_000));
  using text = new DatabaseSync(folder.file("b.db"));
  assertEquals(kindOf("SELECT * FROM t", text), "NOT_A_DATABASE");
});

Deno.test("failures that have a kind already keep it", () => {
  const error = new BackendError("no space left on device (os error 28); database is locked", {
    code: "CLOSED",
    operation: "write",
    kind: "unknown",
    sqlState: "23505",
  });
  for (const convert of [asPostgresError, asBackendError, storageError]) {
    assertEquals(convert("write", "db", error) === error, true);
  }
});

Deno.test("file failures have a code and a kind", () => {
  if (Deno.build.os !== "linux") return; // the numbers are those of Linux
  for (const [message, code, kind] of FILE_ERRORS) {
    assertKind(storageError("write", "/a", new Error(message)), [message, code, kind]);
  }
});
