import type { Backend } from "../backends/backend.ts";
import { AlertMonitor, allRules, nameOf } from "../monitoring/alerts/alert_monitor.ts";
import { acceptRule, type AlertRule, type AlertRuleInput } from "../monitoring/alerts/alert_rules.ts";
import { Alerts } from "../monitoring/alerts/alerts.ts";
import { bodiesOf, CLUSTER } from "../monitoring/document_kinds.ts";
import { acceptCluster, type Cluster } from "../monitoring/health.ts";
import type { Alert } from "../records/alert.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import {
  BY_OPTION,
  type Command,
  CONNECTION_OPTIONS,
  FORMAT_OPTIONS,
  readBy,
  readFormat,
  withBackend,
} from "./command.ts";
import { readDurationMs, readOption, UsageError } from "../query/option_values.ts";
import { note, printFound } from "./output.ts";
import { readDataset } from "../query/selection.ts";

/** Operations on the alerts of a database. No metrics are watched. */
export function openAlerts({ documents }: Backend): Alerts {
  return new Alerts(documents, new AlertMonitor(documents, () => {}));
}

/** Options that each set the field of a rule with the same name in camelCase; `for` sets `durationMs`. */
const RULE_OPTIONS = optionsOf({
  "dataset NAME": "metrics or services (default metrics)",
  "field NAME": "field of the metrics, such as gpuUsage",
  "above N": "fire where the field is greater",
  "below N": "fire where the field is less",
  "equals VALUE": "fire where the field is this",
  "for TIME": "how long that must hold (default: fire at once)",
  "severity NAME": "info, warning, critical or emergency",
  "description TEXT": "text of the alert (default: the condition)",
  "cluster-id ID": "only this cluster",
  "node-id ID": "only this node",
  "device-id ID": "only this device",
  "service-name NAME": "only this service",
});

export const alertsRules: Command = {
  name: "alerts rules",
  positionals: "[name]",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...RULE_OPTIONS,
    ...optionsOf({
      disable: "keep the rule, and do not apply it",
      delete: "delete the rule; a built-in one of this name applies again",
    }),
  ],
  examples: [
    "openfinops alerts rules",
    "openfinops alerts rules idle_gpu --field gpuUsage --below 5 --for 30m --severity info",
    "openfinops alerts rules high_cpu_usage --disable",
  ],
  async run(given) {
    const [name] = given.positionals;
    if (name === undefined) return await listRules(given);
    if (given.has("delete")) {
      const isDeleted = await withBackend(
        given,
        "existing",
        (backend) => openAlerts(backend).removeRule(name),
      );
      return note(isDeleted ? `Deleted: ${name}.` : `Nothing to delete: ${name} is not stored.`);
    }
    const isEnabled = !given.has("disable");
    const fields = readRule(given);
    if (Object.keys(fields).length > 0) acceptRule({ name, isEnabled, ...fields } as AlertRuleInput); // before it is opened
    await withBackend(given, "create", async (backend) => {
      const known = (await allRules(backend.documents)).find((rule) => rule.name === name);
      const base = Object.keys(fields).length > 0 ? { name } : known;
      if (!base) {
        throw new UsageError(`There is no rule ${name}. Add --field and a condition.`, "NOT_FOUND");
      }
      const rule = await openAlerts(backend).setRule({ ...base, ...fields, isEnabled } as AlertRuleInput);
      note(`Set: ${rule.name}, ${conditionOf(rule)}${isEnabled ? "" : ", disabled"}.`);
    });
  },
};

function readRule(given: Arguments): Record<string, unknown> {
  const fields = RULE_OPTIONS.map(({ name }): [string, unknown] => {
    const text = given.text(name);
    const field = name.replace(/-(.)/, (_, letter) => letter.toUpperCase());
    if (text === undefined) return [field, undefined];
    if (name === "for") return ["durationMs", readDurationMs(name, text)];
    if (name === "dataset") return [field, readDataset(text).name];
    if (name === "above" || name === "below") return [field, Number(text)];
    return [field, name === "equals" && /^(true|false)$/.test(text) ? text === "true" : text];
  });
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined));
}

async function listRules(given: Arguments): Promise<void> {
  const format = readFormat(given);
  const rules = await withBackend(given, "read", ({ documents }) => allRules(documents));
  printFound(format, rules, {
    header: ["name", "dataset", "condition", "seconds", "severity", "of", "enabled"],
    rows: rules.map((rule) => ({
      ...rule,
      condition: conditionOf(rule),
      seconds: rule.durationMs / 1_000,
      of: nameOf(rule),
      enabled: rule.isEnabled ? "yes" : "no",
    })),
    none: "No rules.",
  });
}

function conditionOf({ field, above, below, equals }: AlertRule): string {
  if (equals !== undefined) return `${field} is ${equals}`;
  return above === undefined ? `${field} below ${below}` : `${field} above ${above}`;
}

export const alertsList: Command = {
  name: "alerts list",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS, { name: "all", summary: "also resolved ones" }],
  examples: ["openfinops alerts list", "openfinops alerts list --all --format json"],
  async run(given) {
    const format = readFormat(given);
    const query = { includeResolved: given.has("all") };
    const found = await withBackend(given, "read", (backend) => openAlerts(backend).list(query));
    printFound(format, found, {
      header: [
        "alertId",
        "severity",
        "description",
        "field",
        "value",
        "since",
        "resolvedAt",
        "acknowledgedAt",
        "acknowledgedBy",
      ],
      none: "No alerts.",
    });
  },
};

const MISSING_ID = "Name an alert by its id; `alerts list` has it.";

export const alertsAck: Command = {
  name: "alerts ack",
  positionals: "<id>",
  missing: MISSING_ID,
  options: [...CONNECTION_OPTIONS, BY_OPTION],
  examples: ["openfinops alerts ack gpu_overheating/prod/gpu-01 --by kim"],
  run: (given) => change(given, "Acknowledged", (alerts, id) => alerts.acknowledge(id, readBy(given))),
};

export const alertsResolve: Command = {
  name: "alerts resolve",
  positionals: "<id>",
  missing: MISSING_ID,
  options: CONNECTION_OPTIONS,
  examples: ["openfinops alerts resolve node_silent/prod/gpu-07"],
  run: (given) => change(given, "Resolved", (alerts, id) => alerts.resolve(id)),
};

async function change(
  given: Arguments,
  what: string,
  run: (alerts: Alerts, id: string) => Promise<Alert>,
): Promise<void> {
  const [id] = given.positionals;
  const alert = await withBackend(given, "existing", (backend) => run(openAlerts(backend), id));
  note(`${what}: ${alert.alertId}.`);
}

export const alertsClusters: Command = {
  name: "alerts clusters",
  positionals: "[cluster-id]",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...optionsOf({
      "node ID ...": "node that must report; repeatable",
      "every TIME": "expected interval: a node silent for longer is down (default 5m)",
      "region NAME": "region",
      delete: "expect nothing of the cluster any more",
    }),
  ],
  examples: [
    "openfinops alerts clusters",
    "openfinops alerts clusters prod --node gpu-01 --node gpu-02 --every 2m",
  ],
  async run(given) {
    const [clusterId] = given.positionals;
    if (clusterId === undefined) return await listClusters(given);
    if (given.has("delete")) {
      const isDeleted = await withBackend(
        given,
        "existing",
        ({ documents }) => documents.delete(CLUSTER, clusterId),
      );
      return note(
        isDeleted ? `Deleted: ${clusterId}.` : `Nothing to delete: ${clusterId} is not registered.`,
      );
    }
    const body = acceptCluster({
      clusterId,
      nodes: given.texts("node").flatMap((text) => text.split(",")),
      intervalMs: readOption(given, "every", readDurationMs),
      region: given.text("region"),
    });
    await withBackend(
      given,
      "create",
      ({ documents }) => documents.write({ kind: CLUSTER, id: clusterId, body }),
    );
    note(`Registered: ${clusterId}.`);
  },
};

async function listClusters(given: Arguments): Promise<void> {
  const format = readFormat(given);
  const found = await withBackend(given, "read", ({ documents }) => bodiesOf<Cluster>(documents, CLUSTER));
  printFound(format, found, {
    header: ["clusterId", "region", "intervalSeconds", "nodes"],
    rows: found.map(({ intervalMs = 300_000, nodes = [], ...cluster }) => (
      { ...cluster, intervalSeconds: intervalMs / 1_000, nodes: nodes.join(" ") }
    )),
    none: "No clusters are registered.",
  });
}
