/**
 * Generates `docs/troubleshooting.md` from the error codes and the failure rows. `deno task troubleshooting` runs it.
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";
import { POSTGRES_FAILURES } from "../src/backends/postgres/errors.ts";
import { DUCKDB_FAILURES } from "../src/backends/duckdb/failures.ts";
import { REMOTE_FAILURES } from "../src/backends/remote/failures.ts";
import { SQLITE_FAILURES } from "../src/backends/sqlite/file.ts";
import type { ErrorCode, FailureRow } from "../src/errors.ts";
import { FILE_FAILURES } from "../src/pipeline/durable_file.ts";
import { formatMarkdown } from "./fields.ts";

const DOCUMENT = fromFileUrl(new URL("../docs/troubleshooting.md", import.meta.url));

/** Tables of failures by what reports them. */
const TABLES: readonly (readonly [reporter: string, rows: readonly FailureRow[]])[] = [
  ["PostgreSQL, TimescaleDB", POSTGRES_FAILURES],
  ["SQLite", SQLITE_FAILURES],
  ["DuckDB", DUCKDB_FAILURES],
  ["spool, dead letters", FILE_FAILURES],
  ["server of `--send`", REMOTE_FAILURES],
];

/** Meaning of a code, and a remedy beside those of the failure rows. */
type Entry = readonly [meaning: string, remedy?: string];

const INIT = "Check that it is the right database. Run `openfinops database init` to create the tables.";
const DEAD_LETTER =
  "The record is a [dead letter](spool-and-failures.md#dead-letters): correct it and run `openfinops database dead-letter retry`.";
const OWN_DATABASE = "Choose another file, or give openfinops a schema or a database of its own.";

/** All codes by section. The type checker asks for an entry for each code. */
const SECTIONS = {
  "Command line and configuration": {
    UNKNOWN_COMMAND: ["No command has this name.", "Run `openfinops --help` for the list."],
    UNKNOWN_OPTION: ["No option or configuration field has this name.", "Use the suggested name."],
    INVALID_OPTION: ["An option has a value of the wrong form or range.", "Use what the message asks for."],
    CONFLICTING_OPTIONS: [
      "Two options contradict each other, or an option does not apply here.",
      "Remove one.",
    ],
    MISSING_ARGUMENT: ["A required argument or option is missing.", "Add it; `--help` shows an example."],
    UNEXPECTED_ARGUMENT: [
      "There are more arguments than the command takes.",
      "Remove it, or quote a value that has spaces.",
    ],
    CONFIRMATION_REQUIRED: [
      "The command deletes for good, and there is no terminal to ask on.",
      "Add `--yes`. `database cleanup --dry-run` counts first.",
    ],
    INVALID_CONNECTION_STRING: [
      "The connection string cannot be read. Nothing of it is shown, as any part may be a password.",
      "Percent-encode a password with special characters (`/ ? # % @` are `%2F %3F %23 %25 %40`), or use `PGPASSWORD` " +
      "or `~/.pgpass`. [These](postgresql.md#connection-strings) are the parameters.",
    ],
  },
  "Records and queries": {
    INVALID_RECORD: ["A record or an input is no object.", "Pass an object with named fields."],
    INVALID_FIELD: ["A field has a value of the wrong type or range.", "Correct it; nothing was queued."],
    UNKNOWN_FIELD: [
      "A dataset or a query has no such field.",
      "Correct the name; [Fields](fields.md) lists them.",
    ],
    MISSING_FIELD: ["A required field is missing.", "Add it; [Fields](fields.md) says which are required."],
    NOT_FOUND: [
      "There is no budget, alert or training run with this id.",
      "List those that exist, and use their ids.",
    ],
    ALREADY_EXISTS: [
      "A budget with this id, or the file of a backup, exists.",
      "Change the budget with `updateBudget()`, or choose another id; name a new file.",
    ],
  },
  "Connections": {
    HOST_NOT_FOUND: ["The host name cannot be resolved."],
    HOST_UNREACHABLE: ["There is no route to the host."],
    CONNECTION_REFUSED: [
      "Nothing listens at this host and port.",
      "See `listen_addresses` of the server; `pg_isready` tests it.",
    ],
    CONNECTION_TIMEOUT: ["The server does not answer in time."],
    CONNECTION_LOST: ["The connection was closed or reset. Records wait and are written again."],
    SOCKET_NOT_FOUND: ["There is no Unix socket in the folder."],
    TLS_REFUSED: ["TLS is required, and the server does not offer it."],
    TLS_FAILED: [
      "The TLS handshake failed.",
      "With `verify-full` the certificate must name the host ([TLS](postgresql.md#tls)).",
    ],
    LOGIN_REFUSED: ["The server does not let the user log in."],
    PASSWORD_REFUSED: ["The password is wrong or missing.", "`~/.pgpass` is read only with mode 0600."],
    DATABASE_NOT_FOUND: ["The server has no database of this name."],
    SCHEMA_NOT_FOUND: ["A schema does not exist."],
  },
  "Permissions": {
    PERMISSION_MISSING: [
      "Deno did not grant a permission.",
      "[Permissions](permissions.md) has a set for each command.",
    ],
    ACCESS_DENIED: [
      "The system does not let this user read or write the file or folder.",
      "SQLite creates `-wal` and `-shm` beside its file.",
    ],
    PRIVILEGE_MISSING: [
      "The database user lacks a privilege.",
      "[PostgreSQL](postgresql.md#set-up) and [TimescaleDB](timescaledb.md#privileges) list the grants.",
    ],
    READ_ONLY: ["The database accepts no writes now."],
  },
  "Servers": {
    SERVER_UNSUPPORTED: [
      "The server lacks a feature, or is too old, or something else answers in its place.",
      "Update it, or use another backend or edition. Check the URL, and proxies on the way.",
    ],
    SERVER_STARTING: ["The server is not ready yet."],
    SERVER_STOPPED: ["An operator stopped the server or ended the session."],
    SERVER_FAILED: ["The server reports an internal error."],
    SERVER_LIMIT: [
      "A configured limit of the server is reached.",
      "Raise the setting that the message names.",
    ],
    SERVER_OVERLOADED: ["The server lacks memory or other resources."],
    TOO_MANY_CONNECTIONS: [
      "All connections are in use.",
      "Lower `maxConnections`, or use [PgBouncer](postgresql.md#pgbouncer).",
    ],
    STATEMENT_TIMEOUT: ["A statement took too long and was rolled back.", "Raise `statementTimeoutSeconds`."],
    TRANSACTION_ENDED: ["The server ended a transaction that was idle."],
    SERIALIZATION_FAILED: ["Another transaction was in the way."],
    LOCKED: ["Another session or process holds a lock."],
    EXTENSION_MISSING: [
      "The database or the server has no TimescaleDB.",
      "Install and preload it (`shared_preload_libraries`), run `openfinops database init` as the owner of the database, or use `postgresql://…`.",
    ],
    EXTENSION_CONFLICT: [
      "The extension or its tables are not where openfinops can use them.",
      "Do what the message says: add a schema to the `search_path`, or remove what hypertables would lose.",
    ],
  },
  "Tables": {
    TABLES_MISSING: ["The database has no tables of openfinops, or lacks some.", INIT],
    TABLES_FOREIGN: ["Tables with these names belong to another program or another backend.", OWN_DATABASE],
    TABLES_ALTERED: [
      "A table or a column is not as openfinops created it. Nothing is written.",
      "Undo the change, or restore a backup.",
    ],
    SCHEMA_TOO_NEW: [
      "A newer release created or migrated the database. Nothing was changed.",
      "Update this program.",
    ],
    SCHEMA_TOO_OLD: [
      "An older release created the database.",
      "Run `openfinops database init` to migrate it.",
    ],
    PARTITION_DETACHED: [
      "Records belong in a partition that was detached.",
      "Rename the detached table, or attach it again.",
    ],
    DEFAULT_PARTITION: [
      "A DEFAULT partition holds records of the time of a new partition.",
      "Move them out of it, and drop it.",
    ],
  },
  "Files and disks": {
    FILE_NOT_FOUND: [
      "There is no such file or folder.",
      "Check the path: three slashes are relative to the working folder, four are absolute.",
    ],
    FILE_REPLACED: [
      "The open file was deleted, replaced or cut.",
      "Put the file back, or restart the program.",
    ],
    FILE_IN_USE: [
      "Another process has the DuckDB file open; or the file for rejected lines is an input or the database.",
      "[One process](duckdb.md#one-process) has the file; name another file for rejected lines.",
    ],
    FILE_FAILED: [
      "The file or its folder cannot be used.",
      "Check the path, and that no other process uses the folder.",
    ],
    NOT_A_FILE: ["The path names a folder or a device.", "Name a file."],
    NOT_A_DATABASE: ["The file is damaged or no SQLite database."],
    DISK_FULL: ["The disk or the quota is full. Records wait, and writing resumes by itself."],
    DISK_FAILED: ["The disk failed to read or write."],
    DRIVER_MISSING: [
      "The SQLite driver that `sqliteDriver` names, or the native library of DuckDB, cannot be loaded.",
      "Leave `sqliteDriver` out, or allow FFI and JSR; `DENO_SQLITE_PATH` can name the library. " +
      "[Install DuckDB](duckdb.md#install).",
    ],
    SPOOL_OWNED: [
      "The spool holds records that were accepted for another database.",
      "Use a folder for each database; if the database has moved, remove the file that the message names.",
    ],
  },
  "Writing": {
    DATA_REFUSED: ["The database cannot hold a value of the record.", DEAD_LETTER],
    CONSTRAINT_VIOLATED: ["A constraint that was added to a table refuses the record.", DEAD_LETTER],
    RECORDS_REFUSED: [
      "Dead letters were refused again.",
      "Their file has the reasons. Correct the records or the table.",
    ],
    RECORDS_LOST: [
      "The program ended before all records were stored.",
      "Give `close()` more time, or use a `spoolDirectory`.",
    ],
    CLOSED: [
      "A hub, an observatory or a backend is used after it was closed.",
      "Close it last, or open a new one.",
    ],
    BACKEND_FAILED: [
      "The backend reports a failure that has no code of its own.",
      "See the cause of the error and the server's log.",
    ],
  },
  "Import, export and migration": {
    UNSUPPORTED_FORMAT: [
      "The format does not apply to the dataset.",
      "Use CSV or NDJSON; FOCUS is for costs.",
    ],
    INVALID_HEADER: ["The first line does not name the columns.", "Add it, or choose the right format."],
    INVALID_LINE: [
      "A line is no record of the format.",
      "Correct it; `--rejects FILE` keeps all bad lines with their reasons.",
    ],
    INVALID_FILE: [
      "The file is cut short or damaged.",
      "Fetch it again and import it. The message says if a part is stored; that part is not stored twice. If a file of costs is whole and its last line is only a remark, end it with a line end.",
    ],
    MISSING_COLUMN: ["A column that `--map` names is in no line.", "Correct `--map`."],
    MISSING_CURRENCY: [
      "A file of costs has no column of the currency. None is assumed, as amounts of another currency would be added up wrongly.",
      "Map the column (`--map currency=COLUMN`), or set it for all lines (`--set currency=EUR`).",
    ],
    KEY_CLASH: [
      "One id stands for several different costs; or usage is stored already with other content.",
      "Choose a column that tells costs apart with `--id-column`. Replace stored usage with `--on-conflict replace`.",
    ],
    DELIVERY_REFUSED: [
      "A billing period of a source is stored already with other content, and the files do not cover it; or files of one command have " +
      "most rows in common. Nothing was stored.",
      "Leave out copies and older exports of the same month. Import all files of the period in one command, or pass `--replace` or `--append`. For the costs of another vendor, pass `--source NAME`. " +
      "[Deliveries](import-export-migrate.md#deliveries-of-costs) says what each does.",
    ],
    DATABASE_DIFFERS: [
      "The content of the database does not agree with its own records: deliveries and their totals, keys, the ledger, or the file.",
      "[Verify](import-export-migrate.md#verify-a-database) says what each check means. Costs that you deleted on purpose " +
      "differ, too.",
    ],
    INTERRUPTED: ["A signal ended the import.", "Run the same command again."],
    LINES_REJECTED: [
      "Some lines were rejected; all others are stored.",
      "Correct them and import the file again: nothing is stored twice.",
    ],
    MIGRATION_DIFFERS: [
      "Source and target differ.",
      "The exit code is 3. Where the source is still being written, run it again.",
    ],
    INVOICE_DIFFERS: [
      "The costs of an invoice differ from its details; the exit code is 3.",
      "Import the costs of its billing period again, or ask the issuer.",
    ],
    BUDGET_EXCEEDED: [
      "Spending is over the limit of a budget, or would be; the exit code is 3.",
      "`costs budgets` shows what is spent. Spend less, or raise the limit with `costs set-budget`.",
    ],
  },
  "Requests to the server": {
    LISTEN_FAILED: [
      "The server cannot listen on the address.",
      "Stop the program that listens there, or pass another `--listen`.",
    ],
    INVALID_REQUEST: ["The request line or a header is not valid.", "Correct the client."],
    METHOD_NOT_ALLOWED: ["The path takes other methods.", "Use one of the header `Allow`."],
    INVALID_BODY: ["The body cannot be read.", "Compress it again, or send it as the message says."],
    BODY_TOO_LARGE: [
      "The body is over the limit, as sent or decompressed.",
      "Send it in smaller parts, or start the server with a larger `--max-body`.",
    ],
    BODY_TIMEOUT: ["The body did not arrive in time.", "Send it again, in smaller parts."],
    UNSUPPORTED_ENCODING: ["The server cannot read this Content-Encoding.", "Use gzip, deflate or zstd."],
    TOKEN_MISSING: [
      "The request has no token.",
      "Send `Authorization: Bearer TOKEN`; `openfinops token create` makes one.",
    ],
    TOKEN_REFUSED: [
      "The token is unknown, revoked or expired.",
      "Create another with `openfinops token create`.",
    ],
    SCOPE_MISSING: ["The token lacks the scope of the route.", "Create one with the scope that is named."],
    HOST_REFUSED: [
      "The header Host names another host. A web page may have sent the request by DNS rebinding.",
      "Use `localhost` or the address of the server. Behind a proxy, name its host with `--allow-host`.",
    ],
    ORIGIN_REFUSED: [
      "A page of another site sent the request.",
      "Send it from a program, or from a page of the server.",
    ],
    RATE_LIMITED: ["The token sends more requests than `--rate-limit`.", "Wait as Retry-After says."],
    SERVER_BUSY: [
      "The server answers as many requests as it may, its buffer is full, its database does not answer, or it is stopping.",
      "Wait as Retry-After says, and send the request again.",
    ],
    IDEMPOTENCY_KEY_REUSED: [
      "Two requests with different bodies have the same `Idempotency-Key`. The server stored the first.",
      "Use a new key, such as a UUID, for each request, and the same one only to send it again.",
    ],
    NOT_READY: [
      "The server cannot store records now.",
      "See `reasons` of `/readyz` and the log of the server.",
    ],
  },
  "Monitoring": {
    NOTIFICATION_FAILED: [
      "A channel did not take a notification. The outbox keeps those of budgets, anomalies and alerts.",
      "Correct the channel, test it with `notify test`, and send the rest with `notify flush`.",
    ],
    UNHEALTHY: [
      "A registered node is silent, or notifications were given up; the exit code is 3.",
      "See the nodes in the output of `metrics health`, and the notifications in that of `notify list --state dead`.",
    ],
  },
} as const satisfies Record<string, Partial<Record<ErrorCode, Entry>>>;

type Listed = { [S in keyof typeof SECTIONS]: keyof typeof SECTIONS[S] }[keyof typeof SECTIONS];
/** Fails to compile with the name of a code that has no entry. */
const _missing: Exclude<ErrorCode, Listed> extends never ? true : Exclude<ErrorCode, Listed> = true;

/** The SQLSTATEs or the code that a row matches, or the piece of a message. */
function signOf({ match }: FailureRow): string {
  const source = match.source.replace(/^\^| $/g, "").replaceAll("\\", "");
  const [, group, rest] = /^\(([^()]*)\)(.*)$/.exec(source) ?? [];
  const names = group === undefined ? source.split("|") : group.split("|").map((name) => name + rest);
  const signs = names.filter((name) => /^[0-9A-Z_]+\.*$/.test(name)).map((name) => name.replace(/\.+$/, "…"));
  return signs.map((sign) => `\`${sign}\``).join(", ");
}

function describeCode(code: string, [meaning, remedy]: Entry): string {
  const rows = TABLES.flatMap(([reporter, table]) =>
    table.filter((row) => row.code === code).map((row) => ({ reporter, row }))
  );
  if (!remedy && rows.length === 0) throw new Error(`${code} has no remedy`);
  const lines = rows.map(({ reporter, row }) => {
    const sign = signOf(row);
    return `- ${reporter}${sign && ` ${sign}`}: ${row.problem}. ${row.remedy}`;
  });
  return [`### ${code}`, [meaning, remedy].filter(Boolean).join(" "), lines.join("\n")].filter(Boolean).join(
    "\n\n",
  );
}

/** The text of `docs/troubleshooting.md`. */
export async function troubleshootingDocument(): Promise<string> {
  const sections = Object.entries(SECTIONS).flatMap(([title, entries]) => [
    `## ${title}`,
    ...Object.entries(entries).map(([code, entry]) => describeCode(code, entry)),
  ]);
  return await formatMarkdown(`${
    [
      "# Troubleshooting",
      "<!-- Generated by `deno task troubleshooting` from src/errors.ts, the failure rows and scripts/troubleshooting.ts. -->",
      "Each error has a stable `code`. The command prints it last, as in `error: … [CONNECTION_REFUSED]`. A program reads " +
      "`error.code`, and `code` of [events](spool-and-failures.md), dead letters and rejected lines. The message says what " +
      "happened, then what to do; its wording may change. `openfinops database test-connection` makes a round trip.",
      ...sections,
    ].join("\n\n")
  }\n`);
}

if (import.meta.main) Deno.writeTextFileSync(DOCUMENT, await troubleshootingDocument());
