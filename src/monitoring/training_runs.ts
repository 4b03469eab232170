import { aggregateCosts } from "../aggregation/aggregate.ts";
import type { Backend, CurrencyTotal } from "../backends/backend.ts";
import { ValidationError } from "../errors.ts";
import { Decimal } from "../records/decimal.ts";
import { acceptTime } from "../records/validation.ts";
import { isAnything, isText, takeFields } from "../records/field_checks.ts";
import { bodiesOf, TRAINING_RUN } from "./document_kinds.ts";
import { HOUR_MS } from "../records/calendar.ts";

/** The tag by which costs belong to a training run. */
const TRAINING_RUN_TAG = "training_run_id";

/** Start and end of a training run. */
export interface TrainingRunTimes {
  /** The id, which its costs have as the tag `training_run_id`. */
  trainingRunId: string;
  /** Time at which it began, in epoch milliseconds. Costs before do not count. */
  startTime: number;
  /** Time at which it ended, absent while it goes on. Later costs do not count. */
  endTime?: number;
}

/** Cost of a training run. */
export interface TrainingRun extends TrainingRunTimes {
  /** Duration, in hours. */
  durationHours: number;
  /** Exact committed cost by currency. */
  totals: (CurrencyTotal & {
    /** The same an hour, a canonical decimal string; absent before any time has gone by. */
    costPerHour?: string;
  })[];
}

const SUBJECT = "a training run";

/** Starts to track a run; an earlier run with this id starts over. */
export async function startRun(
  { documents }: Backend,
  trainingRunId: string,
  options: { startTime?: number | Date } = {},
): Promise<TrainingRunTimes> {
  if (!isText.test(trainingRunId)) throw refusal("trainingRunId", trainingRunId, isText.expected);
  const body = { trainingRunId, startTime: timeOf("startTime", options) };
  await documents.write({ kind: TRAINING_RUN, id: trainingRunId, body });
  return body;
}

/** Ends a run; one that has ended before ends at the new time. */
export async function stopRun(
  backend: Backend,
  trainingRunId: string,
  options: { endTime?: number | Date } = {},
): Promise<TrainingRun> {
  const [run] = await readRuns(backend, trainingRunId);
  const endTime = timeOf("endTime", options);
  if (endTime < run.startTime) {
    throw refusal("endTime", endTime, `no earlier than startTime (${run.startTime})`);
  }
  const body = { ...run, endTime };
  await backend.documents.write({ kind: TRAINING_RUN, id: trainingRunId, body });
  return await withCosts(backend, body);
}

/** Returns the cost of tracked runs, or of one. */
export async function costsOfRuns(backend: Backend, trainingRunId?: string): Promise<TrainingRun[]> {
  const found: TrainingRun[] = [];
  for (const run of await readRuns(backend, trainingRunId)) found.push(await withCosts(backend, run));
  return found;
}

async function readRuns({ documents }: Backend, trainingRunId?: string): Promise<TrainingRunTimes[]> {
  const all = await bodiesOf<TrainingRunTimes>(documents, TRAINING_RUN);
  if (trainingRunId === undefined) return all;
  const found = all.filter((run) => run.trainingRunId === trainingRunId);
  if (found.length > 0) return found;
  throw new ValidationError({
    subject: SUBJECT,
    field: "trainingRunId",
    value: trainingRunId,
    expected: "the id of a run started with startTrainingRunTracking()",
    code: "NOT_FOUND",
  });
}

async function withCosts(backend: Backend, run: TrainingRunTimes): Promise<TrainingRun> {
  const { trainingRunId, startTime, endTime } = run;
  const elapsed = Math.max(0, (endTime ?? Date.now()) - startTime);
  const totals = await aggregateCosts(backend, {
    startTime,
    ...(endTime === undefined ? {} : { endTime }),
    tags: { [TRAINING_RUN_TAG]: trainingRunId },
  });
  return {
    ...run,
    durationHours: elapsed / HOUR_MS,
    totals: totals.map(({ currency, basis, total, count }) => ({
      currency,
      ...(basis ? { basis } : {}),
      total,
      count,
      ...(elapsed === 0
        ? {}
        : { costPerHour: Decimal.from(total).timesFraction(BigInt(HOUR_MS), BigInt(elapsed)).toString() }),
    })),
  };
}

function timeOf(field: "startTime" | "endTime", options: object): number {
  const given = takeFields(SUBJECT, options, { fields: { [field]: isAnything } });
  return acceptTime(SUBJECT, field, given[field] ?? Date.now());
}

function refusal(field: string, value: unknown, expected: string): ValidationError {
  return new ValidationError({ subject: SUBJECT, field, value, expected });
}
