/** Changes to `src/spool/`. */
import type { Mutation } from "../mutations.ts";

export const SPOOL: readonly Mutation[] = [
  {
    name: "segment-mode",
    file: "src/spool/segment.ts",
    before: "createNew: true, mode: 0o600 }",
    after: "createNew: true }",
    tests: ["spool_test.ts"],
  },
];
