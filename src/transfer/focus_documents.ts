/**
 * The datasets of FOCUS beside Cost and Usage: contract commitments, invoice details and billing periods. They are few
 * rows, and are kept as documents: one a row, with every column of its file.
 *
 * @module
 */
import type { DocumentStore, StoredDocument } from "../backends/backend.ts";
import { formatCsv } from "./csv.ts";
import { FOCUS_NULL } from "./focus_import.ts";
import { assertWhole, type FileRow, type Reject } from "./rows.ts";
import { TransferError } from "./transfer_error.ts";
import { parseTime } from "./values.ts";

/** A dataset of FOCUS beside Cost and Usage. */
export type FocusDataset = "contract-commitment" | "invoice-detail" | "billing-period";

/** A row: its columns by name. */
export type FocusRow = Readonly<Record<string, string | null>>;

/** The column that identifies each dataset, and the columns that identify a row. */
const DATASETS: Readonly<Record<FocusDataset, { readonly sign: string; readonly key: readonly string[] }>> = {
  "billing-period": { sign: "BillingPeriodStatus", key: ["InvoiceIssuerName", "BillingPeriodStart"] },
  "contract-commitment": {
    sign: "ContractCommitmentId",
    key: ["ContractId", "ContractCommitmentId", "ContractCommitmentPeriodStart"],
  },
  "invoice-detail": { sign: "InvoiceDetailId", key: ["InvoiceIssuerName", "InvoiceId", "InvoiceDetailId"] },
};

export const FOCUS_DATASETS = Object.keys(DATASETS) as readonly FocusDataset[];

/** The dataset of a file by its columns; nothing for Cost and Usage. */
export function focusDatasetOf(columns: readonly string[]): FocusDataset | undefined {
  if (columns.includes("ChargePeriodStart")) return undefined;
  return FOCUS_DATASETS.find((name) => columns.includes(DATASETS[name].sign));
}

function kindOf(dataset: FocusDataset): string {
  return `focus-${dataset}`;
}

/** Kinds of documents that hold rows of other datasets of FOCUS. */
export const FOCUS_KINDS: readonly string[] = FOCUS_DATASETS.map(kindOf);

/** Reads the rows that are stored of a dataset. */
export async function readFocusRows(
  documents: Pick<DocumentStore, "read">,
  dataset: FocusDataset,
): Promise<FocusRow[]> {
  return (await documents.read(kindOf(dataset))).map(({ body }) => body as FocusRow);
}

/** The billing periods that an issuer closed, as {@linkcode periodOf} names them. */
export async function readClosedPeriods(documents: Pick<DocumentStore, "read">): Promise<Set<string>> {
  const rows = await readFocusRows(documents, "billing-period");
  const closed = rows.filter(({ BillingPeriodStatus }) => /^closed$/i.test(BillingPeriodStatus ?? ""));
  return new Set(
    closed.map(({ InvoiceIssuerName, BillingPeriodStart }) =>
      periodOf(InvoiceIssuerName ?? undefined, parseTime(BillingPeriodStart ?? ""))
    ),
  );
}

/** Name of a billing period of an issuer. */
export function periodOf(issuer: string | undefined, start: number | undefined): string {
  return JSON.stringify([issuer ?? null, start ?? null]);
}

/** Encoding of rows. */
export interface FocusDocumentsOptions {
  readonly documents: Pick<DocumentStore, "read">;
  /** Documents that are published with the costs of the same command. */
  readonly staged: StoredDocument[];
  readonly dataset: FocusDataset;
  readonly columns: readonly string[];
  readonly reject: (reject: Reject) => void;
}

/**
 * Makes documents of the rows of a file, one each, and adds them to those that are published; a row that comes again takes
 * the place of the one with its key.
 */
export async function stageFocusRows(
  rows: AsyncIterable<readonly FileRow[]>,
  { documents, staged, dataset, columns, reject }: FocusDocumentsOptions,
): Promise<{ stored: number; known: number; restated: number }> {
  const kind = kindOf(dataset);
  const { key } = DATASETS[dataset];
  const before = [...await documents.read(kind), ...staged.filter((document) => document.kind === kind)];
  const present = new Map(before.map(({ id, body }) => [id, contentOf(body as FocusRow)]));
  const seen = new Map<string, number>();
  const report = { stored: 0, known: 0, restated: 0 };
  for await (const page of rows) {
    assertWhole(page);
    for (const { line, text, fault, values } of page) {
      if (fault !== undefined) {
        reject({ line, code: "INVALID_LINE", reason: fault, text });
        continue;
      }
      const body: FocusRow = Object.fromEntries(
        columns.map((name, i) => [name, (values as readonly string[])[i] || null]),
      );
      const name = JSON.stringify(key.map((column) => body[column] ?? null));
      const count = (seen.get(name) ?? 0) + 1;
      seen.set(name, count);
      const id = count === 1 ? name : `${name} ${count}`;
      const before = present.get(id);
      if (before === contentOf(body)) report.known++;
      else {
        staged.push({ kind, id, body });
        report.stored++;
        if (before !== undefined) report.restated++;
      }
    }
  }
  return report;
}

function contentOf(row: FocusRow): string {
  return JSON.stringify(Object.entries(row).sort(([a], [b]) => a < b ? -1 : 1));
}

/** Writes the rows of a dataset as CSV: the columns in the order of the alphabet, as in the specification. */
export async function* exportFocusRows(
  documents: Pick<DocumentStore, "read">,
  dataset: FocusDataset,
  { isSpreadsheetSafe, onProgress }: { isSpreadsheetSafe?: boolean; onProgress?: (rows: number) => void } =
    {},
): AsyncGenerator<Uint8Array> {
  const utf8 = new TextEncoder();
  const rows = await readFocusRows(documents, dataset);
  if (rows.length === 0) {
    throw new TransferError(
      `Cannot export ${dataset}: the database has no such rows. Import a file of them with --format focus.`,
      { code: "NOT_FOUND" },
    );
  }
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))].sort();
  const csv = { nullText: FOCUS_NULL, isSpreadsheetSafe };
  yield utf8.encode(`${formatCsv(columns, { isSpreadsheetSafe })}\n`);
  for (const [i, row] of rows.entries()) {
    yield utf8.encode(`${formatCsv(columns.map((name) => row[name] ?? undefined), csv)}\n`);
    onProgress?.(i + 1);
  }
}
