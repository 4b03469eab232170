/**
 * Routes that take records in. A 2xx means that they are journaled or committed; the same request twice counts once.
 *
 * @module
 */
import type { AppendOptions, AppendReport } from "../dataset_handle.ts";
import { type ErrorCode, ValidationError } from "../errors.ts";
import { handlesOf } from "../observatory.ts";
import { type Arguments, type Option, optionsOf } from "../query/arguments.ts";
import { readCount, readOption } from "../query/option_values.ts";
import type { Dataset } from "../records/dataset.ts";
import { NEVER_DELIVERED } from "../transfer/cost_sources.ts";
import { answerOnce, type StoredAnswer } from "./answered_requests.ts";
import { API_DATASETS } from "./datasets.ts";
import { refuseDelivered } from "./delivered_costs.ts";
import { readParameters } from "./parameters.ts";
import { type PostedRecords, readRecords, RECORD_TYPES, type Refusal } from "./posted_records.ts";
import { cannotStore, RequestError } from "./problems.ts";
import type { Route, RouteRequest, ServerResources } from "./route.ts";
import { tenantMap, withTenant } from "./tenants.ts";
import { withTimeout } from "../pipeline/time_limit.ts";

/** Refusals that an answer lists by default, and at most: as many records as an agent sends in one request. */
const DEFAULT_ERRORS = 100;
const MAX_ERRORS = 10_000;
/** Longest wait for room in the spool, and for a commit where there is none, in milliseconds. */
const ROOM_TIMEOUT_MS = 5_000;
const COMMIT_TIMEOUT_MS = 30_000;
const OPENING_BRACKET = 0x5b;
/** Source of costs that name no source. */
const API_SOURCE = "api";

/** Schema of an answer. */
const REPORT_SCHEMA = {
  type: "object",
  required: ["accepted", "refused"],
  properties: {
    accepted: {
      type: "integer",
      description:
        "Records that are durable; one whose id and time are stored already counts, and changes nothing",
    },
    refused: { type: "integer", description: "Records that were not stored" },
    errors: {
      type: "array",
      description: "The first refused records, up to the number in the parameter `errors`",
      items: {
        type: "object",
        required: ["line", "index", "code", "message"],
        properties: {
          line: { type: "integer" },
          index: { type: "integer" },
          field: { type: "string" },
          code: { type: "string" },
          message: { type: "string" },
        },
      },
    },
    error: {
      type: "object",
      properties: { code: { type: "string" }, message: { type: "string" } },
    },
  },
} as const;

const PARAMETERS: readonly Option[] = optionsOf({
  "errors N": `most refused records that the answer names (default ${DEFAULT_ERRORS}, at most ${MAX_ERRORS})`,
});

export const INGEST_ROUTES: readonly Route[] = Object.entries(API_DATASETS).map(([name, dataset]) => ({
  method: "POST",
  path: `/api/v1/${name}`,
  scope: "ingest",
  summary: `Store ${dataset.name}, each request once by its Idempotency-Key or else its content`,
  parameters: PARAMETERS,
  body: {
    summary: "An array of records, one record, or one a line; times in epoch milliseconds or ISO 8601",
    types: RECORD_TYPES,
    dataset: dataset.name,
  },
  answer: {
    summary:
      "Number of records that are journaled (202) or committed (200), and those that were refused (422)",
    types: ["application/json"],
    schema: REPORT_SCHEMA,
  },
  handle: (asked, resources) =>
    answerOnce(asked, resources, async (requestId) => {
      const handle = handlesOf(resources)[dataset.name];
      return await store(asked, resources, {
        dataset,
        maxErrors: readParameters(asked.url, PARAMETERS, { read: readErrors }),
        take: (records, options) => handle.append(records as never[], { ...options, requestId }),
      });
    }, { isRestating: dataset.key.length > 0 && resources.config.onConflict === "replace" }),
}));

/** The number of refusals that the answer lists. */
function readErrors(given: Arguments): number {
  return Math.min(readOption(given, "errors", readCount) ?? DEFAULT_ERRORS, MAX_ERRORS);
}

type Take = (records: readonly unknown[], options: AppendOptions) => Promise<AppendReport>;

/** Stores the records of a body, and reports those that were refused. */
async function store(
  asked: RouteRequest,
  { config, backend }: ServerResources,
  { dataset, maxErrors, take }: { dataset: Dataset<unknown>; maxErrors: number; take: Take },
): Promise<StoredAnswer> {
  const complete = completer(dataset, asked.tenant);
  const isSpooled = config.spoolDirectory !== undefined;
  const errors: Refusal[] = [];
  let accepted = 0;
  let refused = 0;
  const posted = await asked.body();
  for await (const part of readRecords(dataset, posted, asked.request.headers.get("content-type"))) {
    completeAll(part, complete);
    if (dataset.name === "cost_entries") {
      if (isSpooled) await refuseDelivered(part, backend);
      else await within(COMMIT_TIMEOUT_MS, (signal) => refuseDelivered(part, backend, signal));
    }
    const { first: position, inputs, lines, faults } = part;
    const report = await within(
      isSpooled ? ROOM_TIMEOUT_MS : COMMIT_TIMEOUT_MS,
      (signal) => take(inputs, { position, signal }),
    );
    accepted += report.accepted;
    refused += report.refused.length;
    for (const { index, error } of report.refused.slice(0, maxErrors - errors.length)) {
      const { field, code, message } = faults.get(index) ?? error;
      errors.push({ line: lines[index], index: position + index, field, code, message });
    }
  }
  // An array without records is complete; a body without anything may have been lost on its way.
  if (accepted + refused === 0 && !posted.includes(OPENING_BRACKET)) {
    throw new RequestError("The body is empty. Send JSON, or one object a line; [] for no records.", {
      code: "INVALID_BODY",
    });
  }
  const counts = { accepted, refused };
  if (refused === 0) return { status: isSpooled ? 202 : 200, body: JSON.stringify(counts), isEmpty: false };
  const code: ErrorCode = "LINES_REJECTED";
  const others = accepted > 0 ? "; the others are stored" : "";
  const message = `${refused} of ${accepted + refused} records were refused${others}. Correct them, and ` +
    "send them in another request.";
  const body = JSON.stringify({ ...counts, errors, error: { code, message } });
  return { status: 422, body, isEmpty: accepted === 0 };
}

/** Completes records, and refuses those that cannot be completed. */
function completeAll({ inputs, faults }: PostedRecords, complete: (input: unknown) => unknown): void {
  for (const [index, input] of inputs.entries()) {
    try {
      inputs[index] = complete(input);
    } catch (error) {
      if (!(error instanceof ValidationError)) throw error;
      faults.set(index, error);
      inputs[index] = undefined;
    }
  }
}

/**
 * Makes the function that sets fields that the server decides: the tenant, in its map and in the id, and no delivery for
 * costs.
 *
 * @throws {RequestError} If records of the dataset name no tenant.
 */
function completer(dataset: Dataset<unknown>, tenant: string | undefined): (input: unknown) => unknown {
  tenantMap(dataset, tenant); // refuses a dataset without tenants
  const isCosts = dataset.name === "cost_entries";
  return (input) => {
    if (typeof input !== "object" || input === null || Array.isArray(input)) return input;
    const given = input as Record<string, unknown>;
    const record = tenant === undefined ? given : withTenant(dataset, given, tenant);
    if (isCosts) assertUndelivered(dataset, record);
    return record;
  };
}

/** Sets the source of a cost. Refuses the source of a delivery, which replaces all costs of its source. */
function assertUndelivered({ noun: subject }: Dataset<unknown>, record: Record<string, unknown>): void {
  const { deliveryId, source } = record;
  if ((deliveryId ?? undefined) !== undefined) {
    const expected = "left out: only an import of a file makes a delivery";
    throw new ValidationError({ subject, field: "deliveryId", value: deliveryId, expected });
  }
  if ((source ?? undefined) === undefined) record.source = API_SOURCE;
  else if (!NEVER_DELIVERED.has(source as string)) {
    const expected = `one of ${[...NEVER_DELIVERED].join(", ")}; import a bill as a file`;
    throw new ValidationError({ subject, field: "source", value: source, expected });
  }
}

/**
 * Waits until records are durable, up to a time limit. A client that disconnects does not end the wait: its retry waits
 * for the same answer.
 *
 * @throws {RequestError} If they are not durable in time. Some may be stored: a retry with the same key is safe.
 */
function within<T>(ms: number, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  return withTimeout(ms, run, () => {
    throw cannotStore();
  });
}
