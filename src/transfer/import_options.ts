import type { Sink } from "../pipeline/sink.ts";
import type { DatasetName } from "../records/dataset.ts";
import type { DeliveryOptions } from "./delivery.ts";
import type { DeliveryTotal } from "./delivery_verdict.ts";
import type { FileInput } from "./file_parts.ts";
import type { MappingOptions } from "./mapping_options.ts";
import type { Reject } from "./rows.ts";
import { TransferError } from "./transfer_error.ts";

/** Options of an import. */
export interface ImportOptions extends MappingOptions, DeliveryOptions {
  /** Form of the file where its format does not say; by default its first byte tells. */
  form?: "csv" | "ndjson";
  /** Target: a backend that `openBackend()` opened. */
  backend: Sink;
  /** Dataset. */
  dataset: DatasetName;
  /**
   * Policy with which the backend was opened. With `replace`, stored usage with the same content is known, not restated.
   *
   * @default {"ignore"}
   */
  onConflict?: "ignore" | "replace";
  /** Time of samples of Prometheus that have none, in epoch ms; the present by default. */
  at?: number;
  /**
   * Stop at the first bad line.
   *
   * @default {false}
   */
  isStrict?: boolean;
  /** Ends the import when it aborts. No costs are stored then; other records that were written stay. */
  signal?: AbortSignal;
  /** Called for each rejected line. */
  onReject?: (reject: Reject) => void;
  /** Called about once a batch. */
  onProgress?: (progress: ImportProgress) => void;
}

/** Number of lines by result: `stored`, `known`, `rejected`, `skipped` and `different` add up to all. */
export interface ImportReport {
  /** Records that are new in the backend, restated ones included. */
  stored: number;
  /** Records that the backend had already. */
  known: number;
  /** Stored records that replaced an older record with the same key. */
  restated: number;
  /** Rejected lines. */
  rejected: number;
  /** Lines of a bill that are no charge as they have no amount, if there are any. */
  skipped?: number;
  /** Usage whose id and time exist with other content, if there is any. It was not stored. Costs have it in `delivery`. */
  different?: number;
  /** Outcome of a delivery of costs, if the files have any. */
  delivery?: DeliveryReport;
}

/** Outcome of a delivery of costs. */
export interface DeliveryReport {
  /** Id of the delivery, as `database deliveries` lists it. */
  id: string;
  /** Costs of earlier deliveries that were deleted. */
  replaced: number;
  /** Costs whose id and time exist with other content. They were not stored. */
  different: number;
  /** Totals of each source, billing period and currency, before and after. */
  totals: readonly DeliveryTotal[];
}

/** Progress of an import. */
export interface ImportProgress extends Omit<ImportReport, "delivery"> {
  /** Bytes that were read, of the file as it is. */
  bytes: number;
  /** Costs that are staged and not visible yet. */
  staged: number;
}

export interface CostFile {
  /** Name in messages, and in the list of deliveries. */
  readonly name: string;
  /** Format; by default the one that its columns identify. */
  readonly format?: ImportOptions["format"];
  /** Form of the file where its format does not say; by default its first byte tells. */
  readonly form?: ImportOptions["form"];
  open(): Promise<FileInput>;
  /** Size in bytes, where known. */
  readonly size?: number;
}

/** The options of an import for one of its files, which its notes name. */
export function ofFile<T extends Partial<Pick<ImportOptions, "onNote">>>(
  { name, format, form }: CostFile,
  options: T,
): T & Pick<CostFile, "format" | "form"> {
  return { ...options, format, form, onNote: (note) => options.onNote?.(note, name) };
}

export function newProgress(): ImportProgress {
  return { stored: 0, known: 0, restated: 0, rejected: 0, bytes: 0, staged: 0 };
}

export function reportOf(
  { stored, known, restated, rejected, skipped, different }: ImportProgress,
): ImportReport {
  return {
    stored,
    known,
    restated,
    rejected,
    ...(skipped ? { skipped } : {}),
    ...(different ? { different } : {}),
  };
}

/** The error as the caller gets it, with what is stored. */
export function asImportError(error: unknown, stored: string): unknown {
  if (!(error instanceof TransferError) || error.message.startsWith("Cannot import")) return error;
  const { code, line, message } = error;
  return new TransferError(`Cannot import all: ${message} ${stored}`, { code, line, cause: error });
}
