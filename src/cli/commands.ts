import type { Command } from "./command.ts";

/** A command as the help lists it. */
export interface CommandEntry {
  /** The words that call it, as in `database init`. */
  readonly name: string;
  /** Description in one line. */
  readonly summary: string;
  load(): Promise<Command>;
}

/** The commands. Only the one that is called is loaded, with all that it needs: `--help` takes 24 ms, not 60 (an empty script: 15). */
export const COMMANDS: readonly CommandEntry[] = [
  ...commandsOf(() => import("./collect.ts"), { collect: "sample this machine and its cost until Ctrl-C" }),
  ...commandsOf(() => import("./serve.ts"), {
    serve: "take in and answer telemetry and costs over HTTP until Ctrl-C",
  }),
  ...commandsOf(() => import("./probe.ts"), {
    probe: "ask a server or an agent if it is ready; exits with 3 if not",
  }),
  ...commandsOf(() => import("./dashboard.ts"), {
    dashboard: "show costs, budgets, clusters and models in a browser, on this machine",
  }),
  ...commandsOf(() => import("./report.ts"), {
    report: "write costs, a cluster or models as one HTML or Markdown file",
  }),
  ...commandsOf(() => import("./init.ts"), {
    "database init": "create or upgrade the tables, and the SQLite file",
  }),
  ...commandsOf(() => import("./test_connection.ts"), {
    "database test-connection": "check the connection: driver, versions, write access, latency",
  }),
  ...commandsOf(() => import("./stats.ts"), {
    "database stats": "print rows, time range, exact totals and size of each dataset",
  }),
  ...commandsOf(() => import("./query.ts"), {
    "database query": "print records, newest first, or aggregates by time and group",
  }),
  ...commandsOf(() => import("./import.ts"), {
    "database import": "import bills, FOCUS, CSV, JSON or Parquet, from files or stdin",
  }),
  ...commandsOf(() => import("./deliveries.ts"), {
    "database deliveries": "list imports of costs, or undo one; asks first",
  }),
  ...commandsOf(() => import("./verify.ts"), {
    "database verify": "compare what each delivery brought with the costs that are there",
  }),
  ...commandsOf(() => import("./export.ts"), {
    "database export": "export NDJSON, CSV, FOCUS or Parquet, oldest first",
  }),
  ...commandsOf(() => import("./backup.ts"), {
    "database backup": "copy the whole database into a new SQLite file",
  }),
  ...commandsOf(() => import("./migrate.ts"), {
    "database migrate": "copy a database into another of any backend; run it again to copy the rest",
  }),
  ...commandsOf(() => import("./cleanup.ts"), {
    "database cleanup": "delete old records and free their disk space; asks first",
  }),
  ...commandsOf(() => import("./maintain.ts"), {
    "database maintain": "retention, partitions, budgets, anomalies and notifications: once, or --every 1h",
  }),
  ...commandsOf(() => import("./delete.ts"), {
    "database delete": "delete records that conditions select; asks first",
  }),
  ...commandsOf(() => import("./dead_letter.ts"), {
    "database dead-letter": "list, retry or purge records that the database refused",
  }),
  ...commandsOf(() => import("./examples.ts"), { "database examples": "print example programs" }),
  ...commandsOf(() => import("./metrics_health.ts"), {
    "metrics health": "show cluster health and active alerts",
  }),
  ...commandsOf(() => import("./costs_summary.ts"), {
    "costs summary": "show spending: change, groups, forecast",
  }),
  ...commandsOf(() => import("./costs_reconcile.ts"), {
    "costs reconcile": "compare an invoice with its costs, to the digit; exits with 3 if they differ",
  }),
  ...commandsOf(() => import("./costs_budgets.ts"), {
    "costs budgets": "show budgets: spent, remaining, forecast; exits with 3 if one is over",
  }),
  ...commandsOf(() => import("./costs_check.ts"), {
    "costs check": "ask before spending: exits with 3 if a budget does not allow an amount",
  }),
  ...commandsOf(() => import("./costs_anomalies.ts"), {
    "costs anomalies": "show days that cost far more or less than usual, new costs and feeds that stopped",
    "costs ack": "acknowledge an anomaly",
  }),
  ...commandsOf(() => import("./costs_set_budget.ts"), {
    "costs set-budget": "create, change or delete a budget",
  }),
  ...commandsOf(() => import("./costs_price.ts"), {
    "costs price": "turn usage into estimated costs; --reprice restates them by newer prices",
  }),
  ...commandsOf(() => import("./costs_allocate.ts"), {
    "costs allocate": "divide the cost of nodes among teams, models or pods by their use of GPUs",
  }),
  ...commandsOf(() => import("./prices.ts"), {
    "prices list": "list prices: own ones, and built-in ones of language models",
    "prices show": "show the prices that apply to a model",
    "prices test": "compute the cost of one call",
    "prices set": "set or delete own prices, also from a file",
  }),
  ...commandsOf(() => import("./alerts.ts"), {
    "alerts rules": "list alert rules; add, change, disable or delete one",
    "alerts list": "list active alerts, the worst first",
    "alerts ack": "acknowledge an alert",
    "alerts resolve": "resolve an alert by hand",
    "alerts clusters": "list or register clusters: their nodes, and how often they must report",
  }),
  ...commandsOf(() => import("./token.ts"), {
    "token create": "create a token for the server, and print it once",
    "token list": "list tokens: their rights, state and last use",
    "token revoke": "revoke a token; servers refuse it within 5 s",
  }),
  ...commandsOf(() => import("./notify.ts"), {
    "notify flush": "send the notifications that wait in the outbox",
    "notify list": "list notifications: waiting, sent and given up",
    "notify test": "send a test notification to a channel",
  }),
];

/** Returns the commands that a file exports, from their names and descriptions. */
function commandsOf(
  load: () => Promise<object>,
  summaries: Readonly<Record<string, string>>,
): CommandEntry[] {
  return Object.entries(summaries).map(([name, summary]) => ({
    name,
    summary,
    load: async () =>
      Object.values(await load()).find((exported) => exported.name === name && "run" in exported),
  }));
}
