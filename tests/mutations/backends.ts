/** Changes to `src/backends/`. */
import type { Mutation } from "../mutations.ts";

export const BACKENDS: readonly Mutation[] = [];
