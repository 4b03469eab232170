/**
 * Routes that manage budgets, alerts, clusters, services and deliveries, and list prices.
 *
 * @module
 */
import type { AlertRuleInput } from "../monitoring/alerts/alert_rules.ts";
import type { BudgetInput } from "../monitoring/budgets/budget.ts";
import type { BudgetChanges } from "../monitoring/budgets/budgets.ts";
import { bodiesOf, CLUSTER, SERVICE } from "../monitoring/document_kinds.ts";
import type { Cluster } from "../monitoring/health.ts";
import type { Service } from "../monitoring/service_dependencies.ts";
import { BuiltInPrices } from "../pricing/built_in_prices.ts";
import { currentPrices } from "../pricing/own_prices.ts";
import type { Arguments, Option } from "../query/arguments.ts";
import { withIsoTimes } from "../query/iso_times.ts";
import { type ListedDelivery, readDeliveries, undoDelivery } from "../transfer/deliveries.ts";
import type { RecordedPart } from "../transfer/recorded_delivery.ts";
import { isoTime } from "../transfer/values.ts";
import { OBJECT_LIMITS, readJson } from "./body.ts";
import { readParameters } from "./parameters.ts";
import { RequestError } from "./problems.ts";
import { jsonBody, type Route, type ServerResources } from "./route.ts";
import { refuseTenants } from "./tenants.ts";

/** Description of a route, from which its `Route` is made. */
interface Operation extends Pick<Route, "summary"> {
  /** Content of the body of the request, where it has one. */
  readonly body?: string;
  readonly parameters?: readonly Option[];
  /** Returns the JSON of the answer; undefined for an answer without content. */
  run(
    what: { id: string; body: object; given: Arguments },
    resources: ServerResources,
  ): Promise<object | undefined>;
}

/** Operations by method and path. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  "GET /api/v1/budgets": {
    summary: "List budgets with their current spending",
    run: async (_, { costs }) => ({ rows: await costs.getBudgetStatus() }),
  },
  "POST /api/v1/budgets": {
    summary: "Create a budget",
    body: "Budget: `budgetId` and `amount`; filters, period and thresholds as in `createBudget()`",
    run: ({ body }, { costs }) => costs.createBudget(body as BudgetInput),
  },
  "PATCH /api/v1/budgets/:id": {
    summary: "Change a budget",
    body: "The fields that change; null resets one",
    run: ({ id, body }, { costs }) => costs.updateBudget(id, body as BudgetChanges),
  },
  "DELETE /api/v1/budgets/:id": {
    summary: "Delete a budget; costs stay",
    run: async ({ id }, { costs }) => found(await costs.deleteBudget(id), `No budget ${id}.`),
  },
  "GET /api/v1/alerts": {
    summary: "List active alerts, the worst first",
    parameters: [{ name: "resolved", summary: "also those that are resolved" }],
    run: async ({ given }, { hub }) => ({
      rows: await hub.getAlerts({ includeResolved: given.has("resolved") }),
    }),
  },
  "POST /api/v1/alerts/:id/acknowledge": {
    summary: "Acknowledge an active alert",
    body: "Empty, or `by` with the name of a person",
    run: ({ id, body }, { hub }) => hub.acknowledgeAlert(id, body),
  },
  "POST /api/v1/alerts/:id/resolve": {
    summary: "Resolve an alert by hand",
    run: ({ id }, { hub }) => hub.resolveAlert(id),
  },
  "POST /api/v1/anomalies/:id/acknowledge": {
    summary: "Acknowledge an anomaly, by its id in the list of anomalies",
    body: "Empty, or `by` with the name of a person",
    run: ({ id, body }, { costs }) => costs.acknowledgeCostAnomaly(id, body),
  },
  "GET /api/v1/alert-rules": {
    summary: "List alert rules, the default ones included",
    run: async (_, { hub }) => ({ rows: await hub.getAlertRules() }),
  },
  "PUT /api/v1/alert-rules/:id": {
    summary: "Store an alert rule",
    body: "Rule as in `setAlertRule()`, without `name`",
    run: ({ id, body }, { hub }) => hub.setAlertRule({ ...body, name: id } as AlertRuleInput),
  },
  "DELETE /api/v1/alert-rules/:id": {
    summary: "Remove a stored alert rule",
    run: async ({ id }, { hub }) => found(await hub.removeAlertRule(id), `No stored alert rule ${id}.`),
  },
  "GET /api/v1/clusters": {
    summary: "List registered clusters",
    run: async (_, { backend }) => ({ rows: await bodiesOf(backend.documents, CLUSTER) }),
  },
  "PUT /api/v1/clusters/:id": {
    summary: "Register a cluster, whose nodes must report",
    body: "Cluster as in `registerCluster()`, without `clusterId`",
    run: async ({ id, body }, { hub }) => {
      const cluster = { ...body, clusterId: id } as Cluster;
      await hub.registerCluster(cluster);
      return cluster;
    },
  },
  "DELETE /api/v1/clusters/:id": {
    summary: "Remove a registered cluster; records stay",
    run: async ({ id }, { backend }) =>
      found(await backend.documents.delete(CLUSTER, id), `No registered cluster ${id}.`),
  },
  "GET /api/v1/services": {
    summary: "List registered services",
    run: async (_, { backend }) => ({ rows: await bodiesOf(backend.documents, SERVICE) }),
  },
  "PUT /api/v1/services/:id": {
    summary: "Register a service and its dependencies",
    body: "Service as in `registerService()`, without `serviceName`",
    run: async ({ id, body }, { hub }) => {
      const service = { ...body, serviceName: id } as Service;
      await hub.registerService(service);
      return service;
    },
  },
  "GET /api/v1/deliveries": {
    summary: "List imports of costs, the oldest first",
    run: async (_, { backend }) => ({ rows: (await readDeliveries(backend)).map(withIsoParts) }),
  },
  "POST /api/v1/deliveries/:id/undo": {
    summary: "Delete the costs of an import",
    run: async ({ id }, { backend }) => ({ deleted: await undoDelivery(backend, id) }),
  },
  "GET /api/v1/prices": {
    summary: "List own prices, or also built-in ones",
    parameters: [{ name: "built-in", summary: "also built-in prices" }],
    run: async ({ given }, { backend }) => {
      const own = (await currentPrices(backend.documents)).map((price) => ({ ...price, source: "own" }));
      if (!given.has("built-in")) return { rows: own };
      const builtIn = await BuiltInPrices.load();
      return { rows: [...own, ...builtIn.all().map((price) => ({ ...price, source: "built-in" }))] };
    },
  },
};

export const ADMIN_ROUTES: readonly Route[] = Object.entries(OPERATIONS).map(([name, operation]) =>
  routeOf(name, operation)
);

function routeOf(name: string, { body: content, parameters = [], run, summary }: Operation): Route {
  const [method, path] = name.split(" ") as [Route["method"], string];
  return {
    method,
    path,
    summary,
    scope: method === "GET" ? "read" : "admin",
    parameters,
    ...(content === undefined ? {} : { body: jsonBody(content) }),
    answer: jsonBody(summary),
    limits: OBJECT_LIMITS,
    async handle(asked, resources) {
      refuseTenants(asked);
      return await readParameters(asked.url, parameters, {
        read: async (given) => {
          const body = content === undefined ? {} : await readJson(asked);
          const answer = await run({ id: asked.params.id, body, given }, resources);
          return answer ? Response.json(withIsoTimes(answer)) : new Response(null, { status: 204 });
        },
      });
    },
  };
}

/** A delivery whose parts have their times as ISO 8601. */
function withIsoParts({ parts, ...delivery }: ListedDelivery): object {
  const times = (part: RecordedPart) => ({
    period: isoTime(part.period),
    first: isoTime(part.first),
    last: isoTime(part.last),
  });
  return { ...delivery, parts: parts.map((part) => ({ ...part, ...times(part) })) };
}

/** Returns an answer without content. */
function found(wasThere: boolean, problem: string): undefined {
  if (!wasThere) throw new RequestError(problem, { code: "NOT_FOUND" });
}
