/**
 * Summary of `collect` at its end.
 *
 * @module
 */
import { BackendError } from "../errors.ts";
import type { CloseReport } from "../pipeline/pipeline_stats.ts";
import type { Arguments } from "../query/arguments.ts";
import { databaseName } from "./command.ts";
import { bold, formatThings, note, print as printLine, printing } from "./output.ts";
import { asCalled, programName } from "./program_name.ts";
import type { CollectPlan } from "./sampling.ts";

/** A run of `collect` that has ended. */
interface SummarizedRun {
  readonly given: Arguments;
  readonly plan: CollectPlan;
  /** Set where records were sent to a server. */
  readonly remote: unknown;
  /** Name of the database or the server. */
  readonly target: string;
}

/** Prints the outcome of the records. */
export function summarize(
  { given, plan, remote, target: name }: SummarizedRun,
  { samples, entries, turnedAway, lastError }: {
    samples: CloseReport;
    entries: CloseReport;
    turnedAway: number;
    lastError?: string;
  },
): void {
  const spoolDirectory = given.text("spool-directory");
  const stored = [formatThings(samples.committed, "sample", "samples")];
  if (plan.costPerHour) stored.push(formatThings(entries.committed, "cost entry", "cost entries"));
  const print = printing.isQuiet ? () => {} : printLine;
  print(`${remote ? "Sent" : "Stored"} ${stored.join(" and ")} ${remote ? "to" : "in"} ${name}.`);
  const spooled = samples.spooled + entries.spooled;
  if (spooled > 0) {
    print(`Kept ${formatThings(spooled, "record", "records")} in the spool for the next start.`);
    if (lastError !== undefined) note(lastError);
  }
  const refused = samples.deadLettered + entries.deadLettered;
  if (refused > 0) {
    const next = spoolDirectory === undefined
      ? ""
      : asCalled("; `openfinops database dead-letter list` shows them");
    const what = remote ? "server" : "database";
    print(`Set ${formatThings(refused, "record", "records")} aside that the ${what} refused${next}.`);
  }
  const lost = samples.lost + entries.lost + turnedAway;
  if (lost > 0) {
    const hint = spoolDirectory === undefined
      ? " Add --spool-directory DIR to keep records for the next start."
      : "";
    throw new BackendError(
      `Lost ${formatThings(lost, "record", "records")}: ${
        lastError ?? "no time was left to write them."
      }${hint}`,
      { code: "RECORDS_LOST", operation: "close", kind: "operator" },
    );
  }
  // A database in memory is gone with this process; a server is asked by others.
  if (name !== "memory" && !remote && !printing.isQuiet) printNextSteps(given, plan);
}

/** Prints commands to try next. They hold no password, which would stay in the history of the shell. */
function printNextSteps(given: Arguments, { costPerHour }: CollectPlan): void {
  const text = given.text("connection-string");
  const isSecret = text !== undefined && text !== databaseName(given);
  const connection = text === undefined || isSecret ? "" : ` --connection-string ${quote(text)}`;
  printLine("");
  printLine(bold(isSecret ? "Try next, with OPENFINOPS_CONNECTION_STRING set to the same:" : "Try next:"));
  const program = programName();
  printLine(`  ${program} database query metrics --limit 5${connection}`);
  if (costPerHour) printLine(`  ${program} database query costs --limit 5${connection}`);
  printLine(`  ${program} database stats${connection}`);
}

function quote(text: string): string {
  return /^[\w:/.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
