/** Changes to monitoring, answers and commands. */
import type { Mutation } from "../mutations.ts";

export const BEHAVIOR: readonly Mutation[] = [];
