import type { Backend } from "../backends/backend.ts";
import { deadLetterFolder } from "../config.ts";
import { BackendError, kindOf, messageOf, ValidationError } from "../errors.ts";
import { type DeadLetter, DeadLetters } from "../pipeline/dead_letters.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { acceptRecord } from "../records/validation.ts";
import type { Arguments, Option } from "./arguments.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTION, readFormat, withBackend } from "./command.ts";
import { ask, type Format, formatCsv, formatTable, formatThings, note, print } from "./output.ts";
import { readName, UsageError } from "./option_values.ts";

const ACTIONS = ["list", "retry", "purge"] as const;
const COLUMNS = ["time", "dataset", "sqlState", "message", "batchId", "record"] as const;

/** The options that name a folder of refused records. */
const FOLDER_OPTIONS: readonly Option[] = [
  { name: "dead-letter-directory", value: "DIR", summary: "folder of refused records" },
  { name: "spool-directory", value: "DIR", summary: "spool whose folder dead-letters is used" },
];

/** `openfinops database dead-letter` */
export const deadLetter: Command = {
  name: "database dead-letter",
  positionals: ACTIONS.join("|"),
  maxPositionals: 1,
  options: [
    ...CONNECTION_OPTIONS,
    FORMAT_OPTION,
    ...FOLDER_OPTIONS,
    { name: "yes", summary: "purge without confirmation" },
  ],
  examples: [
    "openfinops database dead-letter list --spool-directory spool",
    "openfinops database dead-letter retry --spool-directory spool --connection-string sqlite:///openfinops.db",
    "openfinops database dead-letter purge --dead-letter-directory letters --yes",
  ],
  async run(given) {
    const [action] = given.positionals;
    if (action === undefined) {
      throw new UsageError(`Name an action: ${ACTIONS.join(", ")}.`, { code: "MISSING_ARGUMENT" });
    }
    const files = readFiles(given);
    switch (readName("action", action, ACTIONS)) {
      case "list":
        return await list(files, readFormat(given));
      case "retry":
        return await withBackend(given, "existing", (backend) => retry(files, backend));
      case "purge":
        return await purge(files, given.has("yes"));
    }
  },
};

function readFiles(given: Arguments): DeadLetters[] {
  const folder = deadLetterFolder({
    deadLetterDirectory: given.text("dead-letter-directory"),
    spoolDirectory: given.text("spool-directory"),
  });
  if (folder === undefined) {
    throw new UsageError("Pass --dead-letter-directory or --spool-directory.", {
      code: "MISSING_ARGUMENT",
    });
  }
  return Object.values(DATASETS).map(({ name }) => new DeadLetters(folder, name));
}

async function all(files: readonly DeadLetters[]): Promise<DeadLetter[]> {
  return (await Promise.all(files.map((file) => file.list()))).flat();
}

async function list(files: readonly DeadLetters[], format: Format): Promise<void> {
  const letters = await all(files);
  if (format === "json") return print(JSON.stringify(letters, null, 2));
  if (format === "ndjson") {
    for (const letter of letters) print(JSON.stringify(letter));
    return;
  }
  const rows = letters.map((letter) =>
    COLUMNS.map((column) => {
      const value = letter[column] ?? "";
      return typeof value === "string" ? value : JSON.stringify(value);
    })
  );
  if (format === "table" && letters.length === 0) return note("There are no dead letters.");
  if (format === "table") return print(formatTable(COLUMNS, rows));
  for (const row of [COLUMNS, ...rows]) print(formatCsv(row));
}

/** Writes the records again, each under the id that it was refused with: what is stored already stays once. */
async function retry(files: readonly DeadLetters[], backend: Backend): Promise<void> {
  let stored = 0;
  let refused = 0;
  for (const file of files) {
    const { gone, left } = await file.workOff((letter) => isStored(letter, backend));
    stored += gone;
    refused += left;
  }
  print(`Stored ${formatThings(stored, "record", "records")}, ${refused} still refused.`);
  if (refused > 0) {
    throw new BackendError(
      `${
        formatThings(refused, "record is", "records are")
      } still refused. Edit the file, or change the table.`,
      { code: "RECORDS_REFUSED", operation: "retry", kind: "data" },
    );
  }
}

async function isStored({ batchId, dataset: name, record }: DeadLetter, backend: Backend): Promise<boolean> {
  const dataset: Dataset<unknown> = DATASETS[name];
  try {
    const records = [acceptRecord(dataset, record)];
    await retryBriefly(() => backend.write({ id: batchId, dataset, records }));
    return true;
  } catch (error) {
    const isRefusal = error instanceof ValidationError || ["data", "unknown"].includes(kindOf(error));
    if (!isRefusal) throw error; // it says nothing of the record
    note(messageOf(error));
    return false;
  }
}

async function purge(files: readonly DeadLetters[], isSure: boolean): Promise<void> {
  if (!isSure && !Deno.stdin.isTerminal()) {
    throw new UsageError("Purge deletes for good. Pass --yes to confirm.", { code: "CONFIRMATION_REQUIRED" });
  }
  const { length } = await all(files);
  const question = `Delete ${formatThings(length, "refused record", "refused records")} for good?`;
  if (!isSure && length > 0 && !ask(question)) return note("Nothing was deleted.");
  let deleted = 0;
  for (const file of files) deleted += (await file.workOff(() => true)).gone;
  print(`Deleted ${formatThings(deleted, "record", "records")}.`);
}
