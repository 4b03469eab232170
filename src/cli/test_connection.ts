import type { OpenMode, ProbeReport } from "../backends/backend.ts";
import { BackendError } from "../errors.ts";
import type { Arguments } from "../query/arguments.ts";
import {
  type Command,
  CONNECTION_OPTIONS,
  databaseName,
  FORMAT_OPTIONS,
  readFormat,
  withBackend,
} from "./command.ts";
import { formatCsv, formatTable, note, print } from "./output.ts";

/** Result and duration of a probe. */
interface Finding extends ProbeReport {
  backend: string;
  milliseconds: number;
}

export const testConnection: Command = {
  name: "database test-connection",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS],
  examples: [
    "openfinops database test-connection --connection-string sqlite:///openfinops.db",
    "openfinops database test-connection --format json",
  ],
  async run(given) {
    const format = readFormat(given);
    const { warnings, details, ...found } = await probe(given);
    const facts = { ...found, ...details };
    if (format === "json" || format === "ndjson") {
      print(JSON.stringify({ ...facts, warnings }, null, format === "json" ? 2 : 0));
    } else if (format === "csv") {
      print(formatCsv(Object.keys(facts)));
      print(formatCsv(Object.values(facts).map(String)));
    } else {
      print(`Connected to ${databaseName(given)}`);
      print(formatTable(["", ""], Object.entries(facts).map(([name, value]) => [name, show(value)])));
    }
    for (const warning of warnings) note(`Warning: ${warning}`);
  },
};

/** Opens for writing, or for reading where writing is refused. */
async function probe(given: Arguments): Promise<Finding> {
  try {
    return await probeAs(given, "existing");
  } catch (error) {
    if (!(error instanceof BackendError) || error.retryable) throw error;
    try {
      return await probeAs(given, "read");
    } catch {
      throw error;
    }
  }
}

async function probeAs(given: Arguments, mode: OpenMode): Promise<Finding> {
  const start = performance.now();
  return await withBackend(given, mode, async (backend) => {
    const { writable, ...report } = await backend.probe();
    const milliseconds = Math.round((performance.now() - start) * 10) / 10;
    return { backend: backend.name, writable, milliseconds, ...report };
  });
}

function show(value: string | number | boolean): string {
  return typeof value === "boolean" ? value ? "yes" : "no" : String(value);
}
