/**
 * Routes that import files, with the options of the command.
 *
 * @module
 */
import type { Backend, ConflictPolicy } from "../backends/backend.ts";
import { evaluateCosts, noteLooseCosts } from "../monitoring/cost_evaluation.ts";
import type { Arguments, Option } from "../query/arguments.ts";
import { importOptions, readDelivery, readMapping } from "../query/import_options.ts";
import { readName } from "../query/option_values.ts";
import type { Dataset } from "../records/dataset.ts";
import { IMPORT_FORMATS } from "../transfer/formats.ts";
import { importCosts } from "../transfer/import_costs.ts";
import { importRecords } from "../transfer/import.ts";
import type { ImportReport } from "../transfer/import_options.ts";
import { makeReader } from "../transfer/mapping.ts";
import { fileAccess } from "../transfer/random_access.ts";
import type { Reject } from "../transfer/rows.ts";
import { API_DATASETS } from "./datasets.ts";
import { Capacity } from "./limits.ts";
import { readParameters } from "./parameters.ts";
import { RequestError } from "./problems.ts";
import { jsonBody, type Route } from "./route.ts";
import { receiveFile, type Upload } from "./uploads.ts";
import { refuseTenants } from "./tenants.ts";

const MAX_FILE_BYTES = 2 * 2 ** 30;
/** The longest that a file may take to arrive, in milliseconds. */
const FILE_TIMEOUT_MS = 3_600_000;
/** Files that are received and read at once: each takes disk, and a transaction. */
const MAX_IMPORTS = 2;
/** The most bad lines that an answer lists. */
const LISTED_REJECTS = 100;

const FILE_OPTION: Option = {
  name: "file",
  value: "NAME",
  summary: "name of the file in the list of deliveries (default upload)",
};

const occupancy = new Capacity(MAX_IMPORTS);

export const IMPORT_ROUTES: readonly Route[] = Object.entries(API_DATASETS).map(([name, dataset]) =>
  importRoute(`/api/v1/${name}/import`, dataset)
);

/** Options of an import, read from a request. */
type Question = ReturnType<typeof readQuestion>;

function importRoute(path: string, dataset: Dataset<unknown>): Route {
  const isCosts = dataset.name === "cost_entries";
  const parameters = [...importOptions(dataset), FILE_OPTION];
  return {
    method: "POST",
    path,
    scope: isCosts ? "admin" : "ingest", // a bill may replace another
    summary: `Import a file of ${dataset.name}`,
    parameters,
    body: {
      summary: "The file, compressed or not",
      types: ["application/octet-stream", "text/csv", "application/x-ndjson"],
    },
    answer: jsonBody("Number of lines by result, and the delivery"),
    limits: { maxBodyBytes: MAX_FILE_BYTES, bodyTimeoutMs: FILE_TIMEOUT_MS },
    async handle(asked, resources) {
      refuseTenants(asked);
      const question = readParameters(asked.url, parameters, {
        read: (given) => readQuestion(given, dataset),
      });
      using _place = occupancy.hold(1);
      await using file = await receiveFile(asked.chunks(), resources.config);
      const rejects: Reject[] = [];
      const onReject = (reject: Reject) => void (rejects.length < LISTED_REJECTS && rejects.push(reject));
      const notes: string[] = [];
      const onNote = (note: string) => void notes.push(note);
      const { backend, spans } = noteLooseCosts(resources.backend);
      const report = await run(file, {
        dataset,
        question,
        backend,
        onConflict: resources.config.onConflict,
        signal: asked.signal,
        onReject,
        onNote,
      });
      const emit = resources.config.onEvent;
      // The next evaluation makes up for one that fails.
      if (isCosts) await evaluateCosts(resources.backend, { spans: spans(), emit }).catch(() => {});
      return answerReport({ ...report, ...(notes.length > 0 ? { notes } : {}) }, rejects);
    },
  };
}

function readQuestion(given: Arguments, dataset: Dataset<unknown>) {
  const format = given.text("format");
  const mapping = {
    ...readMapping(given, dataset),
    ...(format === undefined ? {} : { format: readName("format", format, IMPORT_FORMATS) }),
  };
  makeReader(dataset, mapping); // unknown fields, before anything is received
  return { ...mapping, ...readDelivery(given, dataset.name), name: given.text("file") ?? "upload" };
}

function run(
  { path, size }: Upload,
  { dataset, question: { name, format, ...options }, ...more }: {
    dataset: Dataset<unknown>;
    question: Question;
    backend: Backend;
    onConflict?: ConflictPolicy;
    signal: AbortSignal;
    onReject: (reject: Reject) => void;
    onNote: (note: string) => void;
  },
): Promise<ImportReport> {
  const file = fileAccess(path, size);
  const asked = { ...options, ...more, format, dataset: dataset.name };
  if (dataset.name !== "cost_entries") return importRecords(file, asked);
  return importCosts([{ name, format, size, open: () => Promise.resolve(file) }], asked);
}

/** Answers with the report; with 422 where lines are bad: the good ones are stored. */
function answerReport(report: ImportReport, rejects: readonly Reject[]): Response {
  if (report.rejected === 0) return Response.json(report);
  const lines = rejects.map(({ text: _, ...reject }) => reject);
  const others = report.stored + report.known > 0 ? "; the others are stored" : "";
  throw new RequestError(
    `Lines that are bad: ${report.rejected}${others}. Correct them, and send them again.`,
    { code: "LINES_REJECTED", details: { report, lines } },
  );
}
