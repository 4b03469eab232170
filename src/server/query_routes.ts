/**
 * Routes that read records and aggregates, by the same words as the command.
 *
 * @module
 */
import { acceptAggregateRequest } from "../aggregation/aggregate_query.ts";
import type { Backend } from "../backends/backend.ts";
import { AGGREGATE_OPTIONS, readAggregateRequest } from "../query/aggregate.ts";
import { columnsOf, readAggregate, type Row, toJsonRow } from "../query/aggregate_columns.ts";
import type { Arguments, Option } from "../query/arguments.ts";
import { invalidValue } from "../query/option_values.ts";
import { readAfter, readPage, type RecordPlace } from "../query/record_page.ts";
import { DEFAULT_LIMIT, readRecordQuery, recordOptions } from "../query/records.ts";
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { formatCsv } from "../transfer/csv.ts";
import { exportRecords } from "../transfer/export.ts";
import { toJsonRecord } from "../transfer/values.ts";
import {
  answer,
  ANSWER_OPTIONS,
  type AnswerFormat,
  begun,
  jsonRows,
  MEDIA_TYPES,
  readAnswerFormat,
  streamTexts,
} from "./answers.ts";
import { decodeCursor, encodeCursor } from "./cursor.ts";
import { API_DATASETS } from "./datasets.ts";
import { readParameters } from "./parameters.ts";
import { committed } from "./reading.ts";
import { jsonBody, type Route, type RouteRequest } from "./route.ts";
import { ofTenant, tenantConditions } from "./tenants.ts";

/** The most records of a page of JSON. */
const MAX_PAGE = 10_000;

const CURSOR_OPTION: Option = { name: "cursor", value: "TEXT", summary: "continue after a page: its next" };
const LIMIT_SUMMARY =
  `at most N records: of a page of JSON 1 to ${MAX_PAGE} (default ${DEFAULT_LIMIT}), else all by default`;

/** Routes of records and aggregates of each dataset. */
export const QUERY_ROUTES: readonly Route[] = Object.entries(API_DATASETS).flatMap(([name, dataset]) => [
  recordsRoute(`/api/v1/${name}`, dataset),
  aggregateRoute(`/api/v1/${name}/aggregate`, dataset),
]);

function recordsRoute(path: string, dataset: Dataset<unknown>): Route {
  const options = recordOptions(dataset)
    .map((option) => option.name === "limit" ? { ...option, summary: LIMIT_SUMMARY } : option);
  const parameters = [...options, CURSOR_OPTION, ...ANSWER_OPTIONS];
  const types = Object.values(MEDIA_TYPES);
  return {
    method: "GET",
    path,
    scope: "read",
    summary: `Read ${dataset.name}, the newest first`,
    parameters,
    answer: { summary: "Records: a page of JSON, or a stream of all", types, dataset: dataset.name },
    async handle(asked, resources) {
      const { timeZone } = resources.config;
      const read = (given: Arguments) => readQuestion(given, asked, dataset);
      const { format, isSpreadsheetSafe, after, ...found } = readParameters(asked.url, parameters, {
        timeZone,
        read,
      });
      const query = ofTenant(dataset, found.query, asked.tenant);
      const backend = await committed(resources);
      if (format === "json") return await answerPage(asked, { backend, dataset, query, after });
      const pages = await begun(readAfter(backend, dataset, query, { after, signal: asked.signal }));
      const bytes = await exportRecords({
        backend: { read: () => pages as AsyncGenerator<never[]>, aggregate: backend.aggregate },
        dataset: dataset.name,
        format,
        isSpreadsheetSafe,
      });
      return answer(bytes, format);
    },
  };
}

interface Question {
  readonly format: AnswerFormat;
  readonly isSpreadsheetSafe: boolean;
  readonly query: RecordQuery;
  readonly after?: RecordPlace;
}

function readQuestion(given: Arguments, { request, url }: RouteRequest, dataset: Dataset<unknown>): Question {
  const { format, isSpreadsheetSafe } = readAnswerFormat(given, request);
  const query = readRecordQuery(given, dataset, format === "json" ? DEFAULT_LIMIT : 0);
  if (format === "json" && !(query.limit! <= MAX_PAGE)) {
    const hint = " Other formats have no bound: format=ndjson.";
    throw invalidValue("limit", `a whole number from 1 to ${MAX_PAGE}`, given.text("limit")!, hint);
  }
  const cursor = given.text("cursor");
  return {
    format,
    isSpreadsheetSafe,
    query,
    ...(cursor === undefined ? {} : { after: decodeCursor(cursor, url, dataset) }),
  };
}

/** Answers with a page of JSON, and where the next one is. */
async function answerPage(
  { url, signal }: RouteRequest,
  { backend, dataset, query, after }: Pick<Question, "query" | "after"> & {
    backend: Backend;
    dataset: Dataset<unknown>;
  },
): Promise<Response> {
  const { limit = DEFAULT_LIMIT } = query;
  const { records, next } = await readPage(backend, dataset, { ...query, limit }, { after, signal });
  const cursor = next && encodeCursor(next, url);
  const body = {
    records: records.map((record) => toJsonRecord(dataset.columns, record)),
    ...(cursor === undefined ? {} : { next: cursor }),
  };
  if (cursor === undefined) return answer(JSON.stringify(body), "json");
  const parameters = new URLSearchParams(url.searchParams);
  parameters.set("cursor", cursor);
  return answer(JSON.stringify(body), "json", { link: `<${url.pathname}?${parameters}>; rel="next"` });
}

function aggregateRoute(path: string, dataset: Dataset<unknown>): Route {
  const parameters = [...recordOptions(dataset), ...AGGREGATE_OPTIONS, ...ANSWER_OPTIONS];
  return {
    method: "GET",
    path,
    scope: "read",
    summary: `Aggregate ${dataset.name} by time, group or both`,
    parameters,
    answer: { ...jsonBody("Rows, by time and group"), types: Object.values(MEDIA_TYPES) },
    async handle(asked, resources) {
      const read = (given: Arguments) => ({
        ...readAnswerFormat(given, asked.request),
        request: readAggregateRequest(given, dataset) as { where?: readonly object[] },
      });
      const { timeZone } = resources.config;
      const { format, isSpreadsheetSafe, request } = readParameters(asked.url, parameters, {
        timeZone,
        read,
      });
      const conditions = tenantConditions(dataset, asked.tenant);
      const backend = await committed(resources);
      const reader: Pick<Backend, "aggregate"> = {
        aggregate: (dataset, query, aggregation) =>
          backend.aggregate(
            dataset,
            { ...query, where: [...query.where ?? [], ...conditions] },
            aggregation,
            { signal: asked.signal },
          ),
      };
      const found = await readAggregate(reader, dataset, request);
      return answer(streamTexts(rowTexts(found, { dataset, request, format, isSpreadsheetSafe })), format);
    },
  };
}

function* rowTexts(
  found: readonly Row[],
  { dataset, request, format, isSpreadsheetSafe }: {
    dataset: Dataset<unknown>;
    request: object;
    format: AnswerFormat;
    isSpreadsheetSafe: boolean;
  },
): Generator<string> {
  if (format === "ndjson") { for (const row of found) yield `${JSON.stringify(toJsonRow(row))}\n`; }
  else if (format === "json") yield* jsonRows(found.values().map(toJsonRow));
  else {
    const accepted = acceptAggregateRequest(dataset, request);
    const columns = columnsOf(dataset, accepted, { found, showMoney: (amount) => amount })
      .filter(({ only = format }) => only === format);
    yield `${formatCsv(columns.map(({ title }) => title), { isSpreadsheetSafe })}\n`;
    for (const row of found) {
      yield `${formatCsv(columns.map(({ cell }) => cell(row)?.toString()), { isSpreadsheetSafe })}\n`;
    }
  }
}
