import { ValidationError } from "../../errors.ts";
import { ALERT_SEVERITIES, type AlertSeverity, type AlertSubject } from "../../records/alert.ts";
import type { Dataset } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import { type Check, isFlag, isOneOf, isText, takeFields } from "../../records/field_checks.ts";

/** Condition of an alert: a field is above, below or at a value for some time. */
export interface AlertRule extends AlertSubject {
  /** The name. */
  name: string;
  /** Dataset of the metrics. */
  dataset: "system_metrics" | "service_metrics" | "device_metrics";
  /** The field, as in `cpuUsage`. */
  field: string;
  /** It holds where the value is greater. */
  above?: number;
  /** It holds where the value is less. */
  below?: number;
  /** It holds where the value is this. */
  equals?: string | boolean;
  /** Duration that the condition must hold, by the times of the metrics, in milliseconds. */
  durationMs: number;
  /** Severity. */
  severity: AlertSeverity;
  /** Description. */
  description: string;
  /** True if the rule is active; `false` also disables a built-in rule of this name. */
  isEnabled: boolean;
}

/** An {@linkcode AlertRule} as it is handed in. */
export interface AlertRuleInput
  extends Omit<AlertRule, "dataset" | "durationMs" | "severity" | "description" | "isEnabled"> {
  /**
   * Dataset of the metrics.
   *
   * @default {"system_metrics"}
   */
  dataset?: AlertRule["dataset"];
  /**
   * Duration that the condition must hold, by the times of the metrics, in milliseconds; 0 fires at once.
   *
   * @default {0}
   */
  durationMs?: number;
  /**
   * Severity.
   *
   * @default {"warning"}
   */
  severity?: AlertSeverity;
  /**
   * Description.
   *
   * @default {the condition}
   */
  description?: string;
  /**
   * True if the rule is active; `false` also disables a built-in rule of this name.
   *
   * @default {true}
   */
  isEnabled?: boolean;
}

const MINUTE = 60_000;

/** Rules of accelerators. An XID is reported once, so it fires at once. */
const DEVICE_RULES = [
  {
    name: "device_overheating",
    field: "temperature",
    above: 90,
    durationMs: MINUTE,
    severity: "critical",
    description: "GPU is too hot",
  },
  {
    name: "device_error",
    field: "errorCode",
    above: 0,
    durationMs: 0,
    severity: "critical",
    description: "GPU error",
  },
  {
    name: "device_throttled",
    field: "throttled",
    equals: true,
    durationMs: 5 * MINUTE,
    severity: "warning",
    description: "GPU is slowed down by heat or power",
  },
  {
    name: "device_idle",
    field: "utilization",
    below: 1,
    durationMs: 60 * MINUTE,
    severity: "info",
    description: "GPU is idle",
  },
] as const;

/** The built-in rules, with the thresholds of OpenFinOps. */
export const DEFAULT_RULES: readonly AlertRule[] = [
  {
    name: "high_cpu_usage",
    dataset: "system_metrics",
    field: "cpuUsage",
    above: 90,
    durationMs: 5 * MINUTE,
    severity: "warning",
    description: "High CPU usage",
    isEnabled: true,
  },
  {
    name: "high_memory_usage",
    dataset: "system_metrics",
    field: "memoryUsage",
    above: 85,
    durationMs: 3 * MINUTE,
    severity: "critical",
    description: "High memory usage",
    isEnabled: true,
  },
  {
    name: "gpu_overheating",
    dataset: "system_metrics",
    field: "temperature",
    above: 85,
    durationMs: MINUTE,
    severity: "critical",
    description: "GPU overheating",
    isEnabled: true,
  },
  {
    name: "high_error_rate",
    dataset: "system_metrics",
    field: "errorRate",
    above: 5,
    durationMs: 2 * MINUTE,
    severity: "critical",
    description: "High error rate",
    isEnabled: true,
  },
  {
    name: "low_success_rate",
    dataset: "service_metrics",
    field: "successRate",
    below: 95,
    durationMs: 2 * MINUTE,
    severity: "critical",
    description: "High error rate of a service",
    isEnabled: true,
  },
  {
    name: "service_down",
    dataset: "service_metrics",
    field: "status",
    equals: "down",
    durationMs: MINUTE / 2,
    severity: "emergency",
    description: "Service is down",
    isEnabled: true,
  },
  ...DEVICE_RULES.map((rule) => ({ ...rule, dataset: "device_metrics" as const, isEnabled: true })),
];

/** The datasets that rules can be about. */
export const ALERT_DATASETS = ["system_metrics", "service_metrics", "device_metrics"] as const;

const isNumber: Check = { test: Number.isFinite, expected: "a finite number" };

const FIELDS: Readonly<Record<keyof AlertRule, Check>> = {
  name: isText,
  dataset: isOneOf(...ALERT_DATASETS),
  field: isText,
  above: isNumber,
  below: isNumber,
  equals: {
    test: (value) => typeof value === "string" || typeof value === "boolean",
    expected: "a string, true or false",
  },
  durationMs: {
    test: (value) => Number.isFinite(value) && value as number >= 0,
    expected: "a number of milliseconds from 0",
  },
  severity: isOneOf(...ALERT_SEVERITIES),
  description: isText,
  isEnabled: isFlag,
  clusterId: isText,
  nodeId: isText,
  deviceId: isText,
  serviceName: isText,
};

/** The dataset that a rule is about. */
export function datasetOf({ dataset }: Pick<AlertRule, "dataset">): Dataset<unknown> {
  return DATASETS[dataset];
}

/**
 * Checks a rule and fills in what is left open.
 *
 * @throws {ValidationError} If a field is missing, unknown or wrong.
 */
export function acceptRule(input: AlertRuleInput): AlertRule {
  const subject = "an alert rule";
  const given = takeFields(subject, input, { fields: FIELDS, required: ["name", "field"] });
  const rule = {
    dataset: "system_metrics",
    durationMs: 0,
    severity: "warning",
    isEnabled: true,
    ...given,
  } as Omit<AlertRule, "description">;
  const refuse = (field: string, value: unknown, expected: string): never => {
    throw new ValidationError({ subject, field, value, expected });
  };
  const dataset = datasetOf(rule);
  const column = dataset.columns.find(({ field }) => field === rule.field);
  const watched = dataset.columns.filter(({ type }) => type !== "timestamp" && type !== "map");
  if (!column || !watched.includes(column)) {
    return refuse("field", rule.field, `one of ${watched.map(({ field }) => field).join(", ")}`);
  }
  const isNumeric = column.type === "real" || column.type === "integer";
  const conditions = isNumeric ? ["above", "below"] as const : ["equals"] as const;
  const others = (["above", "below", "equals"] as const).filter((name) => rule[name] !== undefined);
  if (others.length !== 1 || !conditions.some((name) => name === others[0])) {
    const found = others.map((name) => `${name} ${rule[name]}`).join(", ") || "no condition";
    return refuse(conditions.join(" or "), found, `the one condition of ${rule.field}`);
  }
  if (column.type === "boolean" && typeof rule.equals !== "boolean") {
    return refuse("equals", rule.equals, "true or false");
  }
  for (const name of ["clusterId", "nodeId", "deviceId", "serviceName"] as const) {
    if (rule[name] !== undefined && !dataset.filters.includes(name)) {
      return refuse(name, rule[name], `absent: ${rule.dataset} have no such field`);
    }
  }
  return {
    ...rule,
    description: given.description as string ?? `${rule.field} ${others[0]} ${rule[others[0]]}`,
  };
}
