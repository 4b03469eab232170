import { ANTHROPIC } from "./anthropic.ts";
import { AWS_CUR } from "./aws_cur.ts";
import { AZURE } from "./azure.ts";
import { ANTHROPIC_USAGE } from "./anthropic_usage.ts";
import { GCP } from "./gcp.ts";
import { LITELLM } from "./litellm.ts";
import { NVIDIA_SMI } from "./nvidia_smi.ts";
import { OCI } from "./oci.ts";
import { OPENAI } from "./openai.ts";
import { OPENAI_USAGE } from "./openai_usage.ts";
import { OTEL_GENAI } from "./otel_genai.ts";
import type { Preset } from "./preset.ts";

/** The formats of bills, and of devices and usage. */
export const PRESETS: readonly Preset[] = [
  AWS_CUR,
  AZURE,
  GCP,
  OCI,
  OPENAI,
  ANTHROPIC,
  NVIDIA_SMI,
  LITELLM,
  OPENAI_USAGE,
  ANTHROPIC_USAGE,
  OTEL_GENAI,
];

export function presetOf(format: string | undefined): Preset | undefined {
  return PRESETS.find(({ name }) => name === format);
}
