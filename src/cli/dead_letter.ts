import type { Backend } from "../backends/backend.ts";
import { deadLetterFolder } from "../config.ts";
import { BackendError, kindOf, messageOf, ValidationError } from "../errors.ts";
import { type DeadLetter, DeadLetters } from "../pipeline/dead_letters.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { acceptRecord } from "../records/validation.ts";
import { type Arguments, type Option, optionsOf } from "../query/arguments.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { ask, type Format, formatTable, formatThings, note, print, printEach } from "./output.ts";
import { readRemote, SEND_OPTIONS } from "./remote_server.ts";
import { missing, readName, UsageError } from "../query/option_values.ts";

const ACTIONS = ["list", "retry", "purge"] as const;
const COLUMNS = ["time", "dataset", "sqlState", "message", "batchId", "record"] as const;
/** Rows of a table of letters; more of them get another table. */
const TABLE_ROWS = 1_000;

/** The options that name a folder of refused records. */
const FOLDER_OPTIONS: readonly Option[] = optionsOf({
  "dead-letter-directory DIR": "folder of refused records",
  "spool-directory DIR": "spool whose folder dead-letters is used",
});

export const deadLetter: Command = {
  name: "database dead-letter",
  positionals: ACTIONS.join("|"),
  missing: `Name an action: ${ACTIONS.join(", ")}.`,
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...FOLDER_OPTIONS,
    ...SEND_OPTIONS,
    { name: "yes", summary: "purge without confirmation" },
  ],
  examples: [
    "openfinops database dead-letter list --spool-directory spool",
    "openfinops database dead-letter retry --spool-directory spool --connection-string sqlite:///openfinops.db",
    "openfinops database dead-letter retry --spool-directory spool --send https://finops.example:8430",
    "openfinops database dead-letter purge --dead-letter-directory letters --yes",
  ],
  async run(given) {
    const [action] = given.positionals;
    const files = readFiles(given);
    switch (readName("action", action, ACTIONS)) {
      case "list":
        return await list(files, readFormat(given));
      case "retry":
        return await retryInto(given, files);
      case "purge":
        return await purge(files, given.has("yes"));
    }
  },
};

/** Writes the records again into the database, or to the server. */
async function retryInto(given: Arguments, files: readonly DeadLetters[]): Promise<void> {
  const remote = readRemote(given);
  if (!remote) return await withBackend(given, "existing", (backend) => retryLetters(files, backend));
  try {
    await retryLetters(files, remote.backend);
  } finally {
    await remote.backend.close();
  }
}

function readFiles(given: Arguments): DeadLetters[] {
  const folder = deadLetterFolder({
    deadLetterDirectory: given.text("dead-letter-directory"),
    spoolDirectory: given.text("spool-directory"),
  });
  if (folder === undefined) {
    throw missing("Pass --dead-letter-directory or --spool-directory.");
  }
  return Object.values(DATASETS).map(({ name }) => new DeadLetters(folder, name));
}

async function* all(files: readonly DeadLetters[]): AsyncGenerator<DeadLetter> {
  for (const file of files) yield* file.list();
}

/** Prints letters as they are read. Tables have an equal number of rows, so that memory stays flat. */
async function list(files: readonly DeadLetters[], format: Format): Promise<void> {
  const letters = all(files);
  if (format !== "table") {
    return void await printEach(format, letters, {
      header: COLUMNS,
      cells: cellsOf,
      toJson: (letter) => letter,
    });
  }
  let count = 0;
  let rows: string[][] = [];
  const printRows = () => {
    if (rows.length > 0) print(`${count > TABLE_ROWS ? "\n" : ""}${formatTable(COLUMNS, rows)}`);
    rows = [];
  };
  for await (const letter of letters) {
    rows.push(cellsOf(letter));
    count++;
    if (rows.length === TABLE_ROWS) printRows();
  }
  printRows();
  if (count === 0) note("There are no dead letters.");
}

function cellsOf(letter: DeadLetter): string[] {
  return COLUMNS.map((column) => {
    const value = letter[column] ?? "";
    return typeof value === "string" ? value : JSON.stringify(value);
  });
}

/**
 * Writes the records again, each under the id that it was refused with: what is stored already stays once.
 *
 * @throws {BackendError} If a record is still refused, or if the backend fails, which removes no record.
 */
export async function retryLetters(files: readonly DeadLetters[], backend: Backend): Promise<void> {
  let stored = 0;
  let refused = 0;
  for (const file of files) {
    const { gone, left } = await file.drain((letter) => isStored(letter, backend));
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

async function isStored(
  { batchId, dataset: name, record, member }: DeadLetter,
  backend: Backend,
): Promise<boolean> {
  const dataset: Dataset<unknown> = DATASETS[name];
  try {
    const records = [acceptRecord(dataset, record)];
    const members = member && [member];
    const write = () => backend.write({ id: batchId, dataset, records, members });
    const { refused = [] } = await retryBriefly(write);
    for (const { error } of refused) note(messageOf(error));
    return refused.length === 0;
  } catch (error) {
    const isRefusal = error instanceof ValidationError || ["data", "unknown"].includes(kindOf(error));
    if (!isRefusal) throw error; // it says nothing of the record
    note(messageOf(error));
    return false;
  }
}

async function purge(files: readonly DeadLetters[], isSure: boolean): Promise<void> {
  if (!isSure && !Deno.stdin.isTerminal()) {
    throw new UsageError("Purge deletes for good. Pass --yes to confirm.", "CONFIRMATION_REQUIRED");
  }
  let count = 0;
  if (!isSure) { for await (const _ of all(files)) count++; }
  const question = `Delete ${formatThings(count, "refused record", "refused records")} for good?`;
  if (!isSure && count > 0 && !ask(question)) return note("Nothing was deleted.");
  let deleted = 0;
  for (const file of files) deleted += (await file.drain(() => true)).gone;
  print(`Deleted ${formatThings(deleted, "record", "records")}.`);
}
