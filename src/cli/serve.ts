import project from "../../deno.json" with { type: "json" };
import type { PersistenceConfig } from "../config.ts";
import { BackendError, messageOf } from "../errors.ts";
import type { TelemetryEvent } from "../pipeline/events.ts";
import type { CloseReport } from "../pipeline/pipeline_stats.ts";
import { isLoopbackName, TokenAccess } from "../server/access.ts";
import { type Answered, createApp } from "../server/app.ts";
import type { Limits } from "../server/limits.ts";
import type { MetricIntakeOptions, UsageSource } from "../server/metric_intake.ts";
import { type OpenedResources, openResources } from "../server/resources.ts";
import type { ServerResources } from "../server/route.ts";
import { type Listening, serve, type ServeOptions } from "../server/serve.ts";
import { type CertificateFiles, readCertificate, watchCertificate } from "../server/tls.ts";
import { withinLimit } from "../pipeline/time_limit.ts";
import { readTokens, readTokensFile, type Token, writeLastUse } from "../server/tokens.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, readConfig, sqliteFile } from "./command.ts";
import {
  conflict,
  invalidValue,
  missing,
  readCount,
  readDurationMs,
  readOption,
  UsageError,
} from "../query/option_values.ts";
import { countersOf, readLog, repeat, startHeartbeat } from "./heartbeat.ts";
import { readListen } from "./listen.ts";
import { isFinding, Notifier, readChannels } from "./notifications.ts";
import { LOG_OPTIONS, type LogFields } from "./log.ts";
import { OutageReporter } from "./outage_reporter.ts";
import { formatThings, note } from "./output.ts";
import { readMapping } from "./scrape.ts";
import { listenForStop, openUnlessStopped, stopped } from "./stop.ts";

/** Address where none is given. */
const DEFAULT_LISTEN = "127.0.0.1:8430";
/** Folder of the spool of a database server. */
const DEFAULT_SPOOL = "openfinops-spool";

/** Time between looks if an outage is over, in milliseconds. */
const RECOVERY_MS = 1_000;

export const serveCommand: Command = {
  name: "serve",
  options: [
    ...CONNECTION_OPTIONS,
    {
      name: "listen",
      value: "HOST:PORT",
      summary: `address to listen on (default ${DEFAULT_LISTEN})`,
      elsewhere: ["host", "port", "bind"],
    },
    ...optionsOf({
      "spool-directory DIR":
        `journal of accepted records (default: FILE-spool of SQLite, else ${DEFAULT_SPOOL})`,
      "no-spool": "no journal: requests wait for the database",
      "tls-cert FILE": "certificate chain (PEM) for TLS; a changed file is used within 5 s",
      "tls-key FILE": "its private key (PEM)",
      "tokens-file FILE": "further tokens, a JSON array; a changed file is used within 5 s",
      insecure: "answer without a token on other addresses than loopback",
      "max-body MIB": "most MiB of a body, also decompressed (default 64)",
      "max-requests N": "most requests at once; others get 503 (default 256)",
      "rate-limit N": "most requests of a token a second; others get 429 (default: none)",
      "usage-from spans|metrics|both": "telemetry that usage of models is read from (default spans)",
      "metric-map FILE": "own mappings of their metrics, a JSON array",
      "keep PATTERN ...": "keep other metrics of these names in metric_points, as in 'my.*'; repeatable",
      "deadline TIME": "time to finish requests and commit at the end (default 10s)",
    }),
    ...LOG_OPTIONS,
  ],
  examples: [
    "openfinops serve",
    "openfinops serve --connection-string postgresql://db.example/telemetry",
    "openfinops serve --listen 0.0.0.0:8430 --tls-cert server.pem --tls-key server.key",
  ],
  async run(given) {
    const plan = await readPlan(given);
    using stop = listenForStop();
    let onFinding = () => {};
    const onEvent = (event: TelemetryEvent) => {
      plan.reporter.report(event);
      if (isFinding(event)) onFinding();
    };
    const opened = openResources({ ...plan.config, onEvent }, plan.intake);
    const resources = await openUnlessStopped(opened, stop.signal);
    let listening: Listening;
    try {
      const access = await openAccess(resources, plan);
      const app = createApp(resources, { access, limits: plan.limits, onAnswer: noteFailure });
      listening = await serve(app, plan);
    } catch (error) {
      await resources.close(plan);
      throw error;
    }
    const notifier = new Notifier(resources.backend, readChannels());
    onFinding = () => notifier.notifySoon();
    using _watch = watchFiles(plan, listening);
    const stats = () => [resources.hub.stats(), resources.costs.stats()];
    note(`Listening on ${listening.url} for ${databaseName(given)}.`, "info", { version: project.version });
    using _heartbeat = startHeartbeat(stats, plan.heartbeatMs);
    using _recovery = repeat(() => plan.reporter.checkRecovery(...stats()), RECOVERY_MS);
    await stopped(stop.signal);
    stop[Symbol.dispose](); // a second signal ends the process at once
    await close(listening, resources, { notifier, deadlineMs: plan.deadlineMs });
  },
};

interface Plan extends ServeOptions {
  readonly config: PersistenceConfig;
  readonly intake: MetricIntakeOptions;
  readonly limits: Partial<Limits>;
  readonly deadlineMs: number;
  readonly tokensFile: string | undefined;
  /** True to answer without a token on any address. */
  readonly isInsecure: boolean;
  readonly files: CertificateFiles | undefined;
  readonly heartbeatMs: number;
  /** Reports events of the resources. */
  readonly reporter: OutageReporter;
}

async function readPlan(given: Arguments): Promise<Plan> {
  const heartbeatMs = readLog(given);
  const reporter = new OutageReporter();
  const count = (name: string) => readOption(given, name, (name, text) => readCount(name, text, 1));
  const maxBody = count("max-body");
  const limits = {
    maxBodyBytes: maxBody === undefined ? undefined : maxBody * 2 ** 20,
    maxRequests: count("max-requests"),
    maxRatePerToken: count("rate-limit"),
  };
  const [certFile, keyFile] = [given.text("tls-cert"), given.text("tls-key")];
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw missing("--tls-cert and --tls-key belong together. Pass both.");
  }
  const files = certFile === undefined ? undefined : { certFile, keyFile: keyFile! };
  return {
    ...readListen(given.text("listen") ?? DEFAULT_LISTEN),
    config: { ...readConfig(given), spoolDirectory: readSpool(given), priceUsage: true },
    intake: readIntake(given),
    limits: Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit !== undefined)),
    deadlineMs: readDurationMs("deadline", given.text("deadline") ?? "10s"),
    tokensFile: given.text("tokens-file"),
    isInsecure: given.has("insecure"),
    files,
    certificate: files && await readCertificate(files),
    heartbeatMs,
    reporter,
  };
}

/**
 * Creates the access of the server.
 *
 * @throws {UsageError} If others than this machine could reach the server without a token.
 */
async function openAccess(
  { backend }: ServerResources,
  { hostname, tokensFile, isInsecure }: Plan,
): Promise<TokenAccess> {
  const { documents } = backend;
  let stored: Promise<readonly Token[]> | undefined;
  const read = async () => {
    const inFile = tokensFile === undefined ? [] : await readTokensFile(tokensFile);
    if (backend.isAway && inFile.length > 0) return inFile; // the database may not answer for a long time
    const before = stored;
    const now = readTokens(documents);
    // During an outage of the database, cached tokens and those of the file stay valid.
    stored = now.catch((error) => before ?? (inFile.length > 0 ? [] : Promise.reject(error)));
    return [...inFile, ...await stored];
  };
  if (tokensFile !== undefined) await readTokensFile(tokensFile); // a fault is reported now
  const isLoopback = isLoopbackName(hostname);
  const mayBeRefused = !isLoopback && !isInsecure && !backend.isAway;
  if (mayBeRefused && (await read().catch(() => undefined))?.length === 0) {
    throw new UsageError(
      `Cannot listen on ${hostname} without a token: everyone there could read and write. ` +
        "Create one with `openfinops token create`, or pass --insecure.",
      "TOKEN_MISSING",
    );
  }
  return new TokenAccess({
    isOpen: (isLoopback && tokensFile === undefined) || isInsecure,
    isLoopback,
    read,
    onUse: (id, day) => void writeLastUse(documents, id, day).catch(() => {}),
  });
}

/** Uses a changed certificate for new connections. */
function watchFiles({ files, certificate }: Plan, listening: Listening): Disposable | undefined {
  if (!files || !certificate) return undefined;
  return watchCertificate(files, certificate, {
    onChange(changed) {
      listening.useCertificate(changed);
      note(`Using the new certificate of ${files.certFile}.`, "info");
    },
    onFault: (error) => note(`${messageOf(error)} The one before stays in use.`),
  });
}

/** Finishes requests and commits what was accepted, within the deadline. */
async function close(
  listening: Listening,
  resources: OpenedResources,
  { notifier, deadlineMs }: { notifier: Notifier; deadlineMs: number },
): Promise<void> {
  const end = performance.now() + deadlineMs;
  note(`Stopping; finishing requests and committing within ${deadlineMs / 1_000} s.`, "info");
  await listening.close({ deadlineMs });
  const left = () => Math.max(0, end - performance.now());
  await withinLimit(notifier.close(), left(), () => {}); // the outbox keeps what is left
  const report = await resources.close({ deadlineMs: left() });
  reportClose(report, countersOf([resources.hub.stats(), resources.costs.stats()]));
}

/** Reports an answer whose cause the client was not told. */
export function noteFailure({ method, path, status, code, error }: Answered): void {
  if (error === undefined) return;
  const cause = error instanceof Error ? error.stack ?? error.message : String(error);
  note(`${method} ${path}: ${cause}`, "error", { status, code });
}

/** Reads the options for metrics and spans of other programs. */
function readIntake(given: Arguments): MetricIntakeOptions {
  const from = given.text("usage-from") ?? "spans";
  const sources: Record<string, readonly UsageSource[]> = {
    spans: ["spans"],
    metrics: ["metrics"],
    both: ["spans", "metrics"],
  };
  if (!Object.hasOwn(sources, from)) throw invalidValue("usage-from", "spans, metrics or both", from);
  return {
    usageFrom: sources[from],
    fields: readMapping(given.text("metric-map")),
    keep: given.texts("keep"),
  };
}

/** Folder of the spool; none in memory, where there is nothing that outlives the process. */
function readSpool(given: Arguments): string | undefined {
  const directory = given.text("spool-directory");
  if (given.has("no-spool")) {
    if (directory === undefined) return undefined;
    throw conflict("--no-spool and --spool-directory contradict each other. Remove one.");
  }
  if (directory !== undefined) return directory;
  const { backend, connectionString } = readConfig(given);
  if (backend === "memory" || backend === "in_memory" || connectionString === "sqlite://") return undefined;
  const [file] = sqliteFile(given);
  return file === undefined ? DEFAULT_SPOOL : `${file}-spool`;
}

function reportClose({ committed, spooled, deadLettered, lost }: CloseReport, fields: LogFields): void {
  const spoolNote = spooled > 0 ? `; kept ${formatThings(spooled, "record", "records")} in the spool` : "";
  const refused = deadLettered > 0 ? `; the database refused ${deadLettered}` : "";
  note(
    `Stopped. Stored ${formatThings(committed, "record", "records")}${spoolNote}${refused}.`,
    "info",
    fields,
  );
  if (lost === 0) return;
  throw new BackendError(
    `Lost ${formatThings(lost, "record", "records")}: the database did not take them in time. Use a spool.`,
    { code: "RECORDS_LOST", operation: "close", kind: "operator" },
  );
}
