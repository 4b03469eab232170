import type { PersistenceConfig } from "../config.ts";
import { BackendError } from "../errors.ts";
import type { TelemetryEvent } from "../pipeline/events.ts";
import type { CloseReport } from "../pipeline/pipeline_stats.ts";
import { OPEN_ACCESS } from "../server/access.ts";
import { createApp } from "../server/app.ts";
import { openResources } from "../server/resources.ts";
import { type Listening, serve } from "../server/serve.ts";
import type { Arguments } from "./arguments.ts";
import {
  type Command,
  CONNECTION_OPTIONS,
  databaseName,
  listenForStop,
  readConfig,
  sqliteFile,
} from "./command.ts";
import { invalidValue, readDurationMs, UsageError } from "../query/option_values.ts";
import { formatThings, note } from "./output.ts";

/** Address where none is given. */
const DEFAULT_LISTEN = "127.0.0.1:8430";
/** Folder of the spool of a database server. */
const DEFAULT_SPOOL = "openfinops-spool";

/** `openfinops serve` */
export const serveCommand: Command = {
  name: "serve",
  options: [
    ...CONNECTION_OPTIONS,
    { name: "listen", value: "HOST:PORT", summary: `address to listen on (default ${DEFAULT_LISTEN})` },
    {
      name: "spool-directory",
      value: "DIR",
      summary: `journal of accepted records (default: FILE-spool of SQLite, else ${DEFAULT_SPOOL})`,
    },
    { name: "no-spool", summary: "no journal: requests wait for the database" },
    {
      name: "deadline",
      value: "TIME",
      summary: "time to finish requests and commit at the end (default 10s)",
    },
  ],
  examples: [
    "openfinops serve",
    "openfinops serve --listen 127.0.0.1:8430 --connection-string postgresql://db.example/telemetry",
  ],
  async run(given) {
    const { hostname, port } = readListen(given.text("listen") ?? DEFAULT_LISTEN);
    const deadlineMs = readDurationMs("deadline", given.text("deadline") ?? "10s");
    const spoolDirectory = readSpool(given);
    const stop = listenForStop();
    try {
      const config: PersistenceConfig = { ...readConfig(given), spoolDirectory, onEvent };
      const resources = await openResources(config);
      let listening: Listening;
      try {
        const app = createApp(resources, { access: OPEN_ACCESS, onAnswer: noteFailure });
        listening = await serve(app, { hostname, port });
      } catch (error) {
        await resources.close({ deadlineMs });
        throw error;
      }
      note(`Listening on ${listening.url} for ${databaseName(given)}.`);
      await stopped(stop.signal);
      stop.dispose(); // a second signal ends the process at once
      const end = performance.now() + deadlineMs;
      note(`Stopping; finishing requests and committing within ${deadlineMs / 1_000} s.`);
      await listening.close({ deadlineMs });
      reportClose(await resources.close({ deadlineMs: Math.max(0, end - performance.now()) }));
    } finally {
      stop.dispose();
    }
  },
};

function onEvent(event: TelemetryEvent): void {
  note(`${event.type}: ${event.message}`);
}

/** Reports an answer whose cause the client was not told. */
export function noteFailure(
  { method, path, error }: { method: string; path?: string; error?: unknown },
): void {
  if (error === undefined) return;
  note(`${method} ${path}: ${error instanceof Error ? error.stack ?? error.message : String(error)}`);
}

/** Reads `HOST:PORT`, `[::1]:PORT`, `:PORT` for all addresses, or `PORT` on loopback. */
function readListen(text: string): { hostname: string; port: number } {
  const [, host, digits] = /^(?:(\[[\da-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw invalidValue("listen", "HOST:PORT such as 127.0.0.1:8430 or 0.0.0.0:8430", text);
  }
  if (host === undefined) return { hostname: "127.0.0.1", port };
  return { hostname: host === "" ? "0.0.0.0" : host.replace(/^\[|\]$/g, ""), port };
}

/** Folder of the spool; none in memory, where there is nothing that outlives the process. */
function readSpool(given: Arguments): string | undefined {
  const directory = given.text("spool-directory");
  if (given.has("no-spool")) {
    if (directory === undefined) return undefined;
    throw new UsageError("--no-spool and --spool-directory contradict each other. Remove one.", {
      code: "CONFLICTING_OPTIONS",
    });
  }
  if (directory !== undefined) return directory;
  const { backend, connectionString } = readConfig(given);
  if (backend === "memory" || backend === "in_memory" || connectionString === "sqlite://") return undefined;
  const [file] = sqliteFile(given);
  return file === undefined ? DEFAULT_SPOOL : `${file}-spool`;
}

/** Waits for a signal to stop. */
export function stopped(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function reportClose({ committed, spooled, deadLettered, lost }: CloseReport): void {
  const spoolNote = spooled > 0 ? `; kept ${formatThings(spooled, "record", "records")} in the spool` : "";
  const refused = deadLettered > 0 ? `; the database refused ${deadLettered}` : "";
  note(`Stopped. Stored ${formatThings(committed, "record", "records")}${spoolNote}${refused}.`);
  if (lost === 0) return;
  throw new BackendError(
    `Lost ${formatThings(lost, "record", "records")}: the database did not take them in time. Use a spool.`,
    { code: "RECORDS_LOST", operation: "close", kind: "operator" },
  );
}
