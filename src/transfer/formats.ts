import { PRESETS } from "./presets/presets.ts";

/** A format that can be read. */
export type ImportFormat =
  | "focus"
  | "aws-cur"
  | "azure"
  | "gcp"
  | "oci"
  | "openai"
  | "anthropic"
  | "nvidia-smi"
  | "litellm"
  | "openai-usage"
  | "anthropic-usage"
  | "otel-genai"
  | "prometheus"
  | "csv"
  | "ndjson"
  | "parquet";
/** The formats that can be read. */
export const IMPORT_FORMATS = [
  "focus",
  ...PRESETS.map(({ name }) => name),
  "prometheus",
  "csv",
  "ndjson",
  "parquet",
] as readonly ImportFormat[];
