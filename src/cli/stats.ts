import type { BackendStats } from "../backends/backend.ts";
import {
  type Command,
  CONNECTION_OPTIONS,
  databaseName,
  FORMAT_OPTION,
  readFormat,
  withBackend,
} from "./command.ts";
import { formatBytes, formatCount, formatCsv, formatTable, isoTime, print } from "./output.ts";

/** `openfinops database stats` */
export const stats: Command = {
  name: "database stats",
  summary: "what is kept: rows, oldest and newest of each dataset, exact totals, size",
  options: [...CONNECTION_OPTIONS, FORMAT_OPTION],
  examples: [
    "openfinops database stats --connection-string sqlite:///openfinops.db",
    "openfinops database stats --format json",
  ],
  async run(given) {
    const format = readFormat(given);
    const found = await withBackend(given, "read", (backend) => backend.stats());
    if (format === "table") printTables(databaseName(given), found);
    else if (format === "json") {
      const datasets = Object.fromEntries(datasetsOf(found).map(({ dataset, ...rest }) => [dataset, rest]));
      print(JSON.stringify({ ...found, datasets }, null, 2));
    } else if (format === "ndjson") { for (const row of datasetsOf(found)) print(JSON.stringify(row)); }
    else {
      print(formatCsv(["dataset", "rows", "oldest", "newest"]));
      for (const { dataset, rows, oldest, newest } of datasetsOf(found)) {
        print(formatCsv([dataset, String(rows), oldest, newest]));
      }
    }
  },
};

/** The datasets with their times as ISO 8601. */
function datasetsOf({ datasets }: BackendStats) {
  return Object.entries(datasets).map(([dataset, { oldest, newest, ...rest }]) => ({
    dataset,
    ...rest,
    ...(oldest === undefined ? {} : { oldest: isoTime(oldest) }),
    ...(newest === undefined ? {} : { newest: isoTime(newest) }),
  }));
}

function printTables(name: string, found: BackendStats): void {
  print(name);
  print("");
  const datasets = datasetsOf(found);
  const sizes = datasets.some(({ partitions }) => partitions !== undefined);
  const rows = datasets.map((
    { dataset, rows, oldest = "", newest = "", partitions, tableBytes, indexBytes },
  ) => [
    dataset,
    formatCount(rows),
    oldest,
    newest,
    ...(sizes ? [formatCount(partitions!), formatBytes(tableBytes!), formatBytes(indexBytes!)] : []),
  ]);
  const header = ["dataset", "rows", "oldest", "newest"];
  print(formatTable(sizes ? [...header, "partitions", "table", "indexes"] : header, rows));
  if (found.totals.length > 0) {
    print("");
    const totals = found.totals.map(({ currency, total, count }) => [currency, total, formatCount(count)]);
    print(formatTable(["currency", "total", "entries"], totals));
  }
  print("");
  for (const [field, value] of Object.entries(found.storage)) {
    print(field.endsWith("SizeBytes") ? `size: ${formatBytes(value as number)}` : `${field}: ${value}`);
  }
}
