/** Changes to `src/pipeline/`. */
import type { Mutation } from "../mutations.ts";

export const PIPELINE: readonly Mutation[] = [];
