/**
 * Routes of views: answers as JSON, by the same words as the commands that print them.
 *
 * @module
 */
import type { Backend } from "../backends/backend.ts";
import { listAnomalies } from "../monitoring/anomalies/acknowledgements.ts";
import { type Arguments, type Option, optionsOf } from "../query/arguments.ts";
import { withIsoTimes } from "../query/iso_times.ts";
import {
  ALLOCATION_OPTIONS,
  ANOMALY_OPTIONS,
  BUDGET_OPTIONS,
  DEVICE_OPTIONS,
  HEALTH_OPTIONS,
  MODEL_OPTIONS,
  readAllocation,
  readAnomalies,
  readBudgets,
  readDevices,
  readHealth,
  readModels,
  readSummary,
  SUMMARY_OPTIONS,
} from "../query/view_options.ts";
import { allocateCosts } from "../views/allocation.ts";
import { budgetDaysView } from "../views/budgets.ts";
import { clustersView } from "../views/clusters.ts";
import { costsView } from "../views/costs.ts";
import { dataHealthView } from "../views/data_health.ts";
import { devicesView } from "../views/devices.ts";
import { modelsView } from "../views/models.ts";
import { readParameters } from "./parameters.ts";
import { committed, readUntil } from "./reading.ts";
import { jsonBody, type Route, type ServerResources } from "./route.ts";
import { refuseTenants } from "./tenants.ts";

interface View<Query> {
  /** Last part of its path. */
  readonly name: string;
  /** Purpose, in one line. */
  readonly summary: string;
  readonly options: readonly Option[];
  read(given: Arguments): Query;
  answer(backend: Backend, query: Query, resources: ServerResources): Promise<unknown>;
}

export const VIEW_ROUTES: readonly Route[] = [
  route({
    name: "costs",
    summary: "Costs of a period: totals, change, forecast and the largest groups",
    options: [
      ...SUMMARY_OPTIONS,
      ...optionsOf({
        "bucket SPAN": "also return the costs of the groups by 1d, 1w, …",
        month: "also return the totals of the present month, with the same filters",
      }),
    ],
    read: (given) => ({ ...readSummary(given), bucket: given.text("bucket"), month: given.has("month") }),
    answer: costsView,
  }),
  route({
    name: "budgets",
    summary: "Budgets with their spending by day",
    options: [{ name: "budget-id", value: "ID", summary: "only this budget" }, ...BUDGET_OPTIONS],
    read: (given) => readBudgets(given, given.text("budget-id")),
    answer: budgetDaysView,
  }),
  route({
    name: "clusters",
    summary: "Health of clusters, nodes and services, and active alerts",
    options: HEALTH_OPTIONS,
    read: readHealth,
    answer: clustersView,
  }),
  route({
    name: "models",
    summary: "Tokens, latency and cost of language models",
    options: MODEL_OPTIONS,
    read: readModels,
    answer: modelsView,
  }),
  route({
    name: "devices",
    summary: "Utilization of devices, and cost of idle ones",
    options: DEVICE_OPTIONS,
    read: readDevices,
    answer: devicesView,
  }),
  route({
    name: "allocation",
    summary: "Costs of devices divided among their workloads",
    options: ALLOCATION_OPTIONS,
    read: readAllocation,
    answer: allocateCosts,
  }),
  route({
    name: "anomalies",
    summary: "Days with unusual costs",
    options: ANOMALY_OPTIONS,
    read: readAnomalies,
    answer: async (backend, query) => ({ rows: await listAnomalies(backend, query) }),
  }),
  route({
    name: "data",
    summary: "Content of the database, and intake counters of the server",
    options: [],
    read: () => undefined,
    answer: (backend, _, { hub, costs, config }) =>
      dataHealthView(backend, Date.now(), { config, stats: [hub.stats(), costs.stats()] }),
  }),
];

function route<Query>({ name, summary, options, read, answer }: View<Query>): Route {
  return {
    method: "GET",
    path: `/api/v1/views/${name}`,
    scope: "read",
    summary,
    parameters: options,
    answer: jsonBody(summary),
    async handle(asked, resources) {
      refuseTenants(asked);
      const { timeZone } = resources.config;
      const query = readParameters(asked.url, options, { timeZone, read });
      const backend = readUntil(await committed(resources), asked.signal);
      return Response.json(withIsoTimes(await answer(backend, query, resources)));
    },
  };
}
