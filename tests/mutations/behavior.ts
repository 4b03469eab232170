/** Changes to monitoring, answers and commands. */
import type { Mutation } from "../mutations.ts";

const TERMINAL: readonly Mutation[] = [
  {
    name: "answer-any-y",
    file: "src/cli/output.ts",
    before: "/^y(es)?\\s*$/i",
    after: "/y/i",
    tests: ["terminal_test.ts: cleanup deletes only"],
  },
  {
    name: "answer-empty",
    file: "src/cli/output.ts",
    before: "/^y(es)?\\s*$/i",
    after: "/^(y(es)?)?\\s*$/i",
    tests: ["terminal_test.ts: cleanup deletes only"],
  },
  {
    name: "answer-not-no",
    file: "src/cli/output.ts",
    before: "return /^y(es)?\\s*$/i.test(",
    after: "return !/^n(o)?\\s*$/i.test(",
    tests: ["terminal_test.ts: cleanup deletes only"],
  },
  {
    name: "cleanup-question",
    file: "src/cli/cleanup.ts",
    before: "if (rows > 0 && !ask(question))",
    after: "if (rows > 2 && !ask(question))",
    tests: ["terminal_test.ts: cleanup deletes only"],
  },
  {
    name: "delete-question",
    file: "src/cli/delete.ts",
    before: 'if (!given.has("yes") && !ask(',
    after: 'if (given.has("dry-run") && !ask(',
    tests: ["terminal_test.ts: delete deletes only"],
  },
  {
    name: "undo-question",
    file: "src/cli/deliveries.ts",
    before: 'if (!given.has("yes") && !ask(',
    after: 'if (given.has("dry-run") && !ask(',
    tests: ["terminal_test.ts: undo deletes only"],
  },
  {
    name: "purge-question",
    file: "src/cli/dead_letter.ts",
    before: "if (!isSure && count > 0 && !ask(question))",
    after: "if (!isSure && count > 2 && !ask(question))",
    tests: ["terminal_test.ts: purge deletes only"],
  },
  {
    name: "singular",
    file: "src/cli/output.ts",
    before: "count === 1 ? one : many",
    after: "count === 0 ? one : many",
    tests: ["terminal_test.ts: in the singular"],
  },
  {
    name: "parquet-on-terminal",
    file: "src/cli/export.ts",
    before: '"parquet" && Deno.stdout.isTerminal()',
    after: '"parquet" && !Deno.stdout.isTerminal()',
    tests: ["terminal_test.ts: Parquet"],
  },
  {
    name: "no-color",
    file: "src/cli/output.ts",
    before: "Deno.stdout.isTerminal() && !Deno.noColor",
    after: "Deno.stdout.isTerminal()",
    tests: ["terminal_test.ts: bold"],
  },
  {
    name: "bold-anywhere",
    file: "src/cli/output.ts",
    before: "Deno.stdout.isTerminal() && !Deno.noColor",
    after: "!Deno.noColor",
    tests: ["terminal_test.ts: bold"],
  },
  {
    name: "bold-never",
    file: "src/cli/output.ts",
    before: "Deno.stdout.isTerminal() && !Deno.noColor",
    after: "Deno.stdout.isTerminal() && Deno.noColor",
    tests: ["terminal_test.ts: bold"],
  },
];

export const BEHAVIOR: readonly Mutation[] = [...TERMINAL];
