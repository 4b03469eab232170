import { ANTHROPIC } from "./anthropic.ts";
import { AWS_CUR } from "./aws_cur.ts";
import { AZURE } from "./azure.ts";
import { GCP } from "./gcp.ts";
import { OCI } from "./oci.ts";
import { OPENAI } from "./openai.ts";
import type { Preset } from "./preset.ts";

/** The formats of bills. */
export const PRESETS: readonly Preset[] = [AWS_CUR, AZURE, GCP, OCI, OPENAI, ANTHROPIC];

/** The preset of a format, if it is one. */
export function presetOf(format: string | undefined): Preset | undefined {
  return PRESETS.find(({ name }) => name === format);
}
