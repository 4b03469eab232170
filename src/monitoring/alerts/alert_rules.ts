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

/** A built-in rule of a dataset: its condition holds for so many minutes. */
type BuiltIn = readonly [
  name: string,
  field: string,
  condition: Pick<AlertRule, "above" | "below" | "equals">,
  minutes: number,
  severity: AlertSeverity,
  description: string,
];

/** The built-in rules by dataset, with the thresholds of OpenFinOps. An XID is reported once, so it fires at once. */
const BUILT_IN: Readonly<Record<AlertRule["dataset"], readonly BuiltIn[]>> = {
  system_metrics: [
    ["high_cpu_usage", "cpuUsage", { above: 90 }, 5, "warning", "High CPU usage"],
    ["high_memory_usage", "memoryUsage", { above: 85 }, 3, "critical", "High memory usage"],
    ["gpu_overheating", "temperature", { above: 85 }, 1, "critical", "GPU overheating"],
    ["high_error_rate", "errorRate", { above: 5 }, 2, "critical", "High error rate"],
  ],
  service_metrics: [
    ["low_success_rate", "successRate", { below: 95 }, 2, "critical", "High error rate of a service"],
    ["service_down", "status", { equals: "down" }, 0.5, "emergency", "Service is down"],
  ],
  device_metrics: [
    ["device_overheating", "temperature", { above: 90 }, 1, "critical", "GPU is too hot"],
    ["device_error", "errorCode", { above: 0 }, 0, "critical", "GPU error"],
    ["device_throttled", "throttled", { equals: true }, 5, "warning", "GPU is slowed down by heat or power"],
    ["device_idle", "utilization", { below: 1 }, 60, "info", "GPU is idle"],
  ],
};

/** The datasets that rules can be about. */
export const ALERT_DATASETS = ["system_metrics", "service_metrics", "device_metrics"] as const;

/** The built-in rules. */
export const DEFAULT_RULES: readonly AlertRule[] = ALERT_DATASETS.flatMap((dataset) =>
  BUILT_IN[dataset].map(([name, field, condition, minutes, severity, description]) => (
    {
      name,
      dataset,
      field,
      ...condition,
      durationMs: minutes * MINUTE,
      severity,
      description,
      isEnabled: true,
    }
  ))
);

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
