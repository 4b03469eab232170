import type { Command } from "./command.ts";

/** A command as the help lists it. */
export interface CommandEntry {
  /** The words that call it, as in `database init`. */
  readonly name: string;
  /** What it does, in a line. */
  readonly summary: string;
  /** Loads it. */
  load(): Promise<Command>;
}

/** The commands. Only the one that is called is loaded, with all that it needs: `--help` takes 24 ms, not 60 (an empty script: 15). */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "collect",
    summary: "sample this machine, and what it costs, into the database until Ctrl-C",
    load: async () => (await import("./collect.ts")).collect,
  },
  {
    name: "database init",
    summary: "make the tables (of SQLite the file, too), or bring them up to date",
    load: async () => (await import("./init.ts")).init,
  },
  {
    name: "database test-connection",
    summary: "make a round trip: driver, versions, whether it can be written, time taken",
    load: async () => (await import("./test_connection.ts")).testConnection,
  },
  {
    name: "database stats",
    summary: "what is kept: rows, oldest and newest of each dataset, exact totals, size",
    load: async () => (await import("./stats.ts")).stats,
  },
  {
    name: "database query",
    summary: "print records, newest first; or what they come to, by time and group",
    load: async () => (await import("./query.ts")).query,
  },
  {
    name: "database import",
    summary: "take in records from files of FOCUS, CSV or NDJSON, also of gzip, or from stdin",
    load: async () => (await import("./import.ts")).importCommand,
  },
  {
    name: "database export",
    summary: "give out records as NDJSON, CSV, FOCUS 1.2 or Parquet, oldest first",
    load: async () => (await import("./export.ts")).exportCommand,
  },
  {
    name: "database migrate",
    summary: "copy what a database holds into another, of whatever backend; run again, it brings the rest",
    load: async () => (await import("./migrate.ts")).migrateCommand,
  },
  {
    name: "database cleanup",
    summary: "delete old records and give their space back; asks first",
    load: async () => (await import("./cleanup.ts")).cleanup,
  },
  {
    name: "database dead-letter",
    summary: "records that the database refused: list, retry or purge them",
    load: async () => (await import("./dead_letter.ts")).deadLetter,
  },
  {
    name: "database examples",
    summary: "print programs that use the library",
    load: async () => (await import("./examples.ts")).examples,
  },
  {
    name: "metrics health",
    summary: "how clusters fare, by the newest metrics of each node, and the active alerts",
    load: async () => (await import("./metrics_health.ts")).metricsHealth,
  },
  {
    name: "costs summary",
    summary: "what was spent: totals, the change, categories, the costliest resources",
    load: async () => (await import("./costs_summary.ts")).costsSummary,
  },
  {
    name: "costs budgets",
    summary: "how budgets stand: what is spent, what is left, where it will end",
    load: async () => (await import("./costs_budgets.ts")).costsBudgets,
  },
  {
    name: "costs set-budget",
    summary: "make a budget, change it, or delete it",
    load: async () => (await import("./costs_set_budget.ts")).costsSetBudget,
  },
];
