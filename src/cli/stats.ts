import type { DatasetStats, PolicyStats } from "../backends/backend.ts";
import type { UnmappedPoints } from "../transfer/unmapped_points.ts";
import { type DataHealthView, dataHealthView } from "../views/data_health.ts";
import {
  type Command,
  databaseName,
  FORMAT_OPTIONS,
  readFormat,
  SOURCE_OPTIONS,
  withBackend,
} from "./command.ts";
import { formatBytes, formatCount, formatCsv, formatTable, isoTime, print, showMoney } from "./output.ts";

export const stats: Command = {
  name: "database stats",
  options: [...SOURCE_OPTIONS, ...FORMAT_OPTIONS],
  examples: [
    "openfinops database stats --connection-string sqlite:///openfinops.db",
    "openfinops database stats --format json",
  ],
  async run(given) {
    const format = readFormat(given);
    const found = await withBackend(given, "read", (backend) => dataHealthView(backend));
    if (format === "table") printTables(databaseName(given), found);
    else if (format === "json") {
      const datasets = Object.fromEntries(datasetsOf(found).map(({ dataset, ...rest }) => [dataset, rest]));
      const [at, sources] = [isoTime(found.at), sourcesOf(found)];
      const deliveries = found.deliveries.map(({ at, ...rest }) => ({ ...rest, at: isoTime(at) }));
      const lists = { datasets, sources, deliveries, policies: policiesOf(found) };
      print(JSON.stringify({ ...found, at, ...lists }, null, 2));
    } else if (format === "ndjson") { for (const row of datasetsOf(found)) print(JSON.stringify(row)); }
    else {
      print(formatCsv(["dataset", "rows", "oldest", "newest"]));
      for (const { dataset, rows, oldest, newest } of datasetsOf(found)) {
        print(formatCsv([dataset, String(rows), oldest, newest]));
      }
    }
  },
};

/** Names of unmapped metrics that a table lists. */
const MAX_UNMAPPED = 20;

/** The datasets with their times as ISO 8601. */
function datasetsOf({ datasets }: DataHealthView) {
  return datasets.map(({ oldest, newest, ageMs: _, ...rest }) => ({
    ...rest,
    ...(oldest === undefined ? {} : { oldest: isoTime(oldest) }),
    ...(newest === undefined ? {} : { newest: isoTime(newest) }),
  }));
}

/** The sources with their times as ISO 8601. */
function sourcesOf({ sources }: DataHealthView) {
  return sources.map(({ deliveredAt, newestPeriod, ...rest }) => ({
    ...rest,
    deliveredAt: isoTime(deliveredAt),
    newestPeriod: isoTime(newestPeriod).slice(0, 10),
  }));
}

function policiesOf({ policies }: DataHealthView) {
  return policies?.map(({ lastRun, settings, ...rest }) => ({
    ...rest,
    settings: JSON.parse(settings),
    ...(lastRun === undefined ? {} : { lastRun: isoTime(lastRun) }),
  }));
}

/** Columns that only some backends can fill. */
const MORE_COLUMNS: readonly { title: string; show(stats: DatasetStats): string | undefined }[] = [
  {
    title: "partitions",
    show: ({ partitions }) => partitions === undefined ? undefined : formatCount(partitions),
  },
  { title: "chunks", show: ({ chunks }) => chunks === undefined ? undefined : formatCount(chunks) },
  {
    title: "compressed",
    show: ({ compressedChunks }) =>
      compressedChunks === undefined ? undefined : formatCount(compressedChunks),
  },
  {
    title: "to",
    show: ({ bytesBeforeCompression: before, bytesAfterCompression: after }) =>
      before === undefined ? undefined : `${(after! / before * 100).toFixed(1)} %`,
  },
  {
    title: "table",
    show: ({ tableBytes }) => tableBytes === undefined ? undefined : formatBytes(tableBytes),
  },
  {
    title: "indexes",
    show: ({ indexBytes }) => indexBytes === undefined ? undefined : formatBytes(indexBytes),
  },
];

function printTables(name: string, found: DataHealthView): void {
  print(name);
  print("");
  const datasets = datasetsOf(found);
  const all = found.datasets;
  const more = MORE_COLUMNS.filter(({ show }) => all.some((stats) => show(stats) !== undefined));
  const rows = datasets.map(({ dataset, rows, oldest = "", newest = "" }, i) => [
    dataset,
    formatCount(rows),
    oldest,
    newest,
    ...more.map(({ show }) => show(all[i]) ?? ""),
  ]);
  print(formatTable(["dataset", "rows", "oldest", "newest", ...more.map(({ title }) => title)], rows));
  if (found.totals.length > 0) {
    print("");
    const totals = found.totals.map(({ currency, basis, total, count }) => [
      basis ? `${currency} (${basis})` : currency,
      showMoney(total, currency),
      formatCount(count),
    ]);
    print(formatTable(["currency", "total", "entries"], totals));
  }
  if (found.sources.length > 0) {
    print("");
    const sources = sourcesOf(found).map(({ source, deliveredAt, newestPeriod, rows }) => [
      source,
      deliveredAt,
      newestPeriod,
      formatCount(rows),
    ]);
    print(formatTable(["source", "last delivery", "newest period", "costs"], sources));
  }
  if (found.unmapped) printUnmapped(found.unmapped);
  if (found.policies) printPolicies(found.policies);
  print("");
  for (const [field, value] of Object.entries(found.storage)) {
    print(field.endsWith("SizeBytes") ? `size: ${formatBytes(value as number)}` : `${field}: ${value}`);
  }
}

/** Settings in JSON as words, as in `drop_after 30 days`. */
function showSettings(json: string): string {
  const settings = Object.entries(JSON.parse(json) as Record<string, unknown>);
  return settings.filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`).join(", ");
}

function printUnmapped(unmapped: readonly UnmappedPoints[]): void {
  const shown = unmapped.slice(0, MAX_UNMAPPED);
  const rows = shown.map(({ name, points }) => [name, formatCount(points)]);
  print("");
  print(formatTable(["metric that no field takes", "points"], rows));
  const more = unmapped.length - shown.length;
  if (more > 0) print(`and ${more} more; --format json lists all`);
}

function printPolicies(policies: readonly PolicyStats[]): void {
  print("");
  const rows = policies.map(({ policy, table, every, settings, lastRun, lastStatus, failures }) => [
    policy.replaceAll("_", " "),
    table,
    every,
    showSettings(settings),
    lastRun === undefined ? "not yet" : `${isoTime(lastRun)} ${lastStatus}`,
    formatCount(failures),
  ]);
  print(formatTable(["policy", "of", "every", "settings", "last run", "failures"], rows));
  const errors = Object.entries(Object.groupBy(policies, ({ lastError = "" }) => lastError))
    .filter(([error]) => error !== "").map(([error, jobs]) => [formatCount(jobs!.length), error]);
  if (errors.length > 0) print(`\n${formatTable(["failed", "error of the last run"], errors)}`);
}
