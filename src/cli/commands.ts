import type { Command } from "./command.ts";

/** A command as the help lists it. */
export interface CommandEntry {
  /** The words that call it, as in `database init`. */
  readonly name: string;
  /** Description in one line. */
  readonly summary: string;
  /** Loads it. */
  load(): Promise<Command>;
}

/** The commands. Only the one that is called is loaded, with all that it needs: `--help` takes 24 ms, not 60 (an empty script: 15). */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "collect",
    summary: "sample this machine and its cost until Ctrl-C",
    load: async () => (await import("./collect.ts")).collect,
  },
  {
    name: "serve",
    summary: "take in and answer telemetry and costs over HTTP until Ctrl-C",
    load: async () => (await import("./serve.ts")).serveCommand,
  },
  {
    name: "probe",
    summary: "ask a server or an agent if it is ready; exits with 3 if not",
    load: async () => (await import("./probe.ts")).probe,
  },
  {
    name: "dashboard",
    summary: "show costs, budgets, clusters and models in a browser, on this machine",
    load: async () => (await import("./dashboard.ts")).dashboard,
  },
  {
    name: "report",
    summary: "write costs, a cluster or models as one HTML or Markdown file",
    load: async () => (await import("./report.ts")).report,
  },
  {
    name: "database init",
    summary: "create or upgrade the tables, and the SQLite file",
    load: async () => (await import("./init.ts")).init,
  },
  {
    name: "database test-connection",
    summary: "check the connection: driver, versions, write access, latency",
    load: async () => (await import("./test_connection.ts")).testConnection,
  },
  {
    name: "database stats",
    summary: "print rows, time range, exact totals and size of each dataset",
    load: async () => (await import("./stats.ts")).stats,
  },
  {
    name: "database query",
    summary: "print records, newest first, or aggregates by time and group",
    load: async () => (await import("./query.ts")).query,
  },
  {
    name: "database import",
    summary: "import bills, FOCUS, CSV, JSON or Parquet, from files or stdin",
    load: async () => (await import("./import.ts")).importCommand,
  },
  {
    name: "database deliveries",
    summary: "list imports of costs, or undo one; asks first",
    load: async () => (await import("./deliveries.ts")).deliveries,
  },
  {
    name: "database verify",
    summary: "compare what each delivery brought with the costs that are there",
    load: async () => (await import("./verify.ts")).verify,
  },
  {
    name: "database export",
    summary: "export NDJSON, CSV, FOCUS or Parquet, oldest first",
    load: async () => (await import("./export.ts")).exportCommand,
  },
  {
    name: "database backup",
    summary: "copy the whole database into a new SQLite file",
    load: async () => (await import("./backup.ts")).backup,
  },
  {
    name: "database migrate",
    summary: "copy a database into another of any backend; run it again to copy the rest",
    load: async () => (await import("./migrate.ts")).migrateCommand,
  },
  {
    name: "database cleanup",
    summary: "delete old records and free their disk space; asks first",
    load: async () => (await import("./cleanup.ts")).cleanup,
  },
  {
    name: "database maintain",
    summary: "retention, partitions, budgets, anomalies and notifications: once, or --every 1h",
    load: async () => (await import("./maintain.ts")).maintain,
  },
  {
    name: "database delete",
    summary: "delete records that conditions select; asks first",
    load: async () => (await import("./delete.ts")).deleteCommand,
  },
  {
    name: "database dead-letter",
    summary: "list, retry or purge records that the database refused",
    load: async () => (await import("./dead_letter.ts")).deadLetter,
  },
  {
    name: "database examples",
    summary: "print example programs",
    load: async () => (await import("./examples.ts")).examples,
  },
  {
    name: "metrics health",
    summary: "show cluster health and active alerts",
    load: async () => (await import("./metrics_health.ts")).metricsHealth,
  },
  {
    name: "costs summary",
    summary: "show spending: change, groups, forecast",
    load: async () => (await import("./costs_summary.ts")).costsSummary,
  },
  {
    name: "costs reconcile",
    summary: "compare an invoice with its costs, to the digit; exits with 3 if they differ",
    load: async () => (await import("./costs_reconcile.ts")).costsReconcile,
  },
  {
    name: "costs budgets",
    summary: "show budgets: spent, remaining, forecast; exits with 3 if one is over",
    load: async () => (await import("./costs_budgets.ts")).costsBudgets,
  },
  {
    name: "costs check",
    summary: "ask before spending: exits with 3 if a budget does not allow an amount",
    load: async () => (await import("./costs_check.ts")).costsCheck,
  },
  {
    name: "costs anomalies",
    summary: "show days that cost far more or less than usual, new costs and feeds that stopped",
    load: async () => (await import("./costs_anomalies.ts")).costsAnomalies,
  },
  {
    name: "costs ack",
    summary: "acknowledge an anomaly",
    load: async () => (await import("./costs_anomalies.ts")).costsAck,
  },
  {
    name: "costs set-budget",
    summary: "create, change or delete a budget",
    load: async () => (await import("./costs_set_budget.ts")).costsSetBudget,
  },
  {
    name: "costs price",
    summary: "turn usage into estimated costs; --reprice restates them by newer prices",
    load: async () => (await import("./costs_price.ts")).costsPrice,
  },
  {
    name: "costs allocate",
    summary: "divide the cost of nodes among teams, models or pods by their use of GPUs",
    load: async () => (await import("./costs_allocate.ts")).costsAllocate,
  },
  {
    name: "prices list",
    summary: "list prices: own ones, and built-in ones of language models",
    load: async () => (await import("./prices.ts")).pricesList,
  },
  {
    name: "prices show",
    summary: "show the prices that apply to a model",
    load: async () => (await import("./prices.ts")).pricesShow,
  },
  {
    name: "prices test",
    summary: "compute the cost of one call",
    load: async () => (await import("./prices.ts")).pricesTest,
  },
  {
    name: "prices set",
    summary: "set or delete own prices, also from a file",
    load: async () => (await import("./prices.ts")).pricesSet,
  },
  {
    name: "alerts rules",
    summary: "list alert rules; add, change, disable or delete one",
    load: async () => (await import("./alerts.ts")).alertsRules,
  },
  {
    name: "alerts list",
    summary: "list active alerts, the worst first",
    load: async () => (await import("./alerts.ts")).alertsList,
  },
  {
    name: "alerts ack",
    summary: "acknowledge an alert",
    load: async () => (await import("./alerts.ts")).alertsAck,
  },
  {
    name: "alerts resolve",
    summary: "resolve an alert by hand",
    load: async () => (await import("./alerts.ts")).alertsResolve,
  },
  {
    name: "alerts clusters",
    summary: "list or register clusters: their nodes, and how often they must report",
    load: async () => (await import("./alerts.ts")).alertsClusters,
  },
  {
    name: "token create",
    summary: "create a token for the server, and print it once",
    load: async () => (await import("./token.ts")).tokenCreate,
  },
  {
    name: "token list",
    summary: "list tokens: their rights, state and last use",
    load: async () => (await import("./token.ts")).tokenList,
  },
  {
    name: "token revoke",
    summary: "revoke a token; servers refuse it within 5 s",
    load: async () => (await import("./token.ts")).tokenRevoke,
  },
  {
    name: "notify flush",
    summary: "send the notifications that wait in the outbox",
    load: async () => (await import("./notify.ts")).notifyFlush,
  },
  {
    name: "notify list",
    summary: "list notifications: waiting, sent and given up",
    load: async () => (await import("./notify.ts")).notifyList,
  },
  {
    name: "notify test",
    summary: "send a test notification to a channel",
    load: async () => (await import("./notify.ts")).notifyTest,
  },
];
