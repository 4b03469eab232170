/**
 * Routes through which a command reads with `--server`: the reading half of the port of backends. Commands compute from it
 * as from a database, so that they print the same.
 *
 * @module
 */
import { DELIVERY } from "../backends/staging.ts";
import { BackendError, errorCodeOf, kindOf } from "../errors.ts";
import * as kinds from "../monitoring/document_kinds.ts";
import { PRICE } from "../pricing/own_prices.ts";
import type { Option } from "../query/arguments.ts";
import { acceptAggregation, acceptBackendQuery } from "../backends/remote/request.ts";
import { readName } from "../query/option_values.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import type { RecordQuery } from "../records/query.ts";
import { FOCUS_KINDS } from "../transfer/focus_documents.ts";
import { UNMAPPED_POINTS } from "../transfer/unmapped_points.ts";
import { answer, begun, jsonRows, streamTexts } from "./answers.ts";
import { OBJECT_LIMITS, readJson } from "./body.ts";
import { readParameters } from "./parameters.ts";
import { committed } from "./reading.ts";
import { jsonBody, type Route, type RouteRequest } from "./route.ts";
import { ofTenant, refuseTenants } from "./tenants.ts";

/** Kinds of documents that may be read. Others, such as tokens, are the server's own. */
const READABLE: readonly string[] = [
  kinds.ACKNOWLEDGEMENT,
  kinds.ALERT,
  kinds.ALERT_RULE,
  kinds.ANOMALY,
  kinds.ANOMALY_ACKNOWLEDGEMENT,
  kinds.BUDGET,
  kinds.CLUSTER,
  kinds.CROSSING,
  DELIVERY,
  kinds.EVALUATION,
  kinds.EXISTENCE,
  kinds.NOTIFICATION,
  PRICE,
  kinds.SERVICE,
  kinds.TRAINING_RUN,
  UNMAPPED_POINTS,
  ...FOCUS_KINDS,
];

const KIND: Option = { name: "kind", value: "NAME", summary: "kind of the documents (required)" };
const LINES = { summary: "Pages of records, then `end` or `error`", types: ["application/x-ndjson"] };

/** Routes that read for a command. */
export const BACKEND_ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/api/v1/backend/read",
    scope: "read",
    summary: "Read records for a command with --server",
    body: jsonBody("`dataset` and `query`"),
    limits: OBJECT_LIMITS,
    answer: { ...LINES, schema: { type: "object" } },
    async handle(asked, resources) {
      const { dataset, query } = await readRequest(asked);
      const backend = await committed(resources);
      const pages = await begun(backend.read(dataset, query, { signal: asked.signal }));
      return new Response(ReadableStream.from(linesOf(pages)), {
        headers: { "content-type": LINES.types[0] },
      });
    },
  },
  {
    method: "POST",
    path: "/api/v1/backend/aggregate",
    scope: "read",
    summary: "Aggregate records for a command with --server",
    body: jsonBody("`dataset`, `query` and `aggregation`"),
    limits: OBJECT_LIMITS,
    answer: jsonBody("Rows"),
    async handle(asked, resources) {
      const { dataset, query, aggregation } = await readRequest(asked);
      const accepted = acceptAggregation(dataset, aggregation);
      const backend = await committed(resources);
      const rows = await backend.aggregate(dataset, query, accepted, { signal: asked.signal });
      return answer(streamTexts(jsonRows(rows)), "json");
    },
  },
  {
    method: "GET",
    path: "/api/v1/backend/documents",
    scope: "read",
    summary: "Read budgets, alerts and other documents for a command with --server",
    parameters: [KIND],
    answer: jsonBody("Documents"),
    async handle(asked, { backend }) {
      refuseTenants(asked);
      const kind = readParameters(asked.url, [KIND], {
        read: (given) => readName("kind", given.text("kind") ?? "", READABLE),
      });
      return Response.json({ documents: await backend.documents.read(kind) });
    },
  },
  {
    method: "GET",
    path: "/api/v1/backend/stats",
    scope: "read",
    summary: "Read statistics of the storage for a command with --server",
    answer: jsonBody("Statistics"),
    async handle(asked, resources) {
      refuseTenants(asked);
      return Response.json(await (await committed(resources)).stats());
    },
  },
];

/** Reads the dataset, the query of the tenant, and an aggregation that is not checked. */
async function readRequest(
  asked: RouteRequest,
): Promise<{ dataset: Dataset<unknown>; query: RecordQuery; aggregation: unknown }> {
  const { dataset: name, query, aggregation } = await readJson(asked) as Record<string, unknown>;
  const names = Object.keys(DATASETS) as (keyof typeof DATASETS)[];
  const dataset: Dataset<unknown> = DATASETS[readName("dataset", String(name), names)];
  return { dataset, query: ofTenant(dataset, acceptBackendQuery(dataset, query), asked.tenant), aggregation };
}

/** Each page as a line of JSON. The last line says that it is the last: a connection may break without a sign. */
async function* linesOf(pages: AsyncIterable<unknown[]>): AsyncGenerator<Uint8Array> {
  const utf8 = new TextEncoder();
  const line = (value: object) => utf8.encode(`${JSON.stringify(value)}\n`);
  try {
    for await (const records of pages) yield line({ records });
    yield line({ end: true });
  } catch (error) {
    const message = error instanceof BackendError
      ? error.message
      : "The read failed. The log of the server has the cause.";
    yield line({ error: { code: errorCodeOf(error), kind: kindOf(error), message } });
  }
}
