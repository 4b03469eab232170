import type { AlertSubject } from "../../records/alert.ts";
import type { AlertRule } from "./alert_rules.ts";

/** Metrics of either kind, as their fields. */
export type Metrics = AlertSubject & { readonly timestamp: number } & Readonly<Record<string, unknown>>;

/** The rules of one field, in the order in which a value breaks them. */
interface FieldRules {
  readonly field: string;
  /** Rules with `above`, the lowest threshold first. */
  readonly above: readonly AlertRule[];
  /** Rules with `below`, the highest threshold first. */
  readonly below: readonly AlertRule[];
  readonly equals: ReadonlyMap<unknown, readonly AlertRule[]>;
  /** The first threshold of either; beyond the range of numbers where there is none. */
  readonly lowest: number;
  readonly highest: number;
}

/**
 * The rules of one dataset, looked up by subject and by value: metrics that break no rule cost the same for a thousand
 * rules as for a few.
 */
export class RuleIndex {
  readonly #general: readonly FieldRules[];
  /** Rules about one subject, by its most specific name. */
  readonly #byName: ReadonlyMap<string, readonly FieldRules[]>;

  /** Builds the index. */
  constructor(rules: readonly AlertRule[]) {
    const byName = Map.groupBy(rules, nameOfRule);
    this.#general = byField(byName.get(undefined) ?? []);
    byName.delete(undefined);
    this.#byName = new Map([...byName].map(([name, rules]) => [name!, byField(rules)]));
  }

  /** Appends the rules that metrics break. */
  collectViolated(metrics: Metrics, broken: AlertRule[]): void {
    collect(this.#general, metrics, broken);
    if (this.#byName.size === 0) return;
    const { serviceName, clusterId, nodeId, deviceId } = metrics;
    const names = serviceName === undefined ? [`node ${nodeId}`, `cluster ${clusterId}`] : [serviceName];
    if (deviceId !== undefined) names.push(`device ${deviceId}`);
    for (const name of names) {
      const rules = this.#byName.get(name);
      if (rules) collect(rules, metrics, broken);
    }
  }
}

/** Returns true if a rule is about the node, device or service of metrics. */
export function matchesSubject(
  { clusterId, nodeId, deviceId, serviceName }: AlertSubject,
  metrics: AlertSubject,
): boolean {
  return (clusterId === undefined || clusterId === metrics.clusterId) &&
    (nodeId === undefined || nodeId === metrics.nodeId) &&
    (deviceId === undefined || deviceId === metrics.deviceId) &&
    (serviceName === undefined || serviceName === metrics.serviceName);
}

/** Returns true if a value breaks a rule. */
export function isBroken(
  { above = Infinity, below = -Infinity, equals }: AlertRule,
  value: unknown,
): boolean {
  if (equals !== undefined) return value === equals;
  return value as number > above || value as number < below;
}

function collect(rules: readonly FieldRules[], metrics: Metrics, broken: AlertRule[]): void {
  for (const { field, above, below, equals, lowest, highest } of rules) {
    const value = metrics[field];
    if (value === undefined) continue; // a measure that was not taken says nothing
    if (value as number > lowest) {
      for (const rule of above) {
        if (!(value as number > rule.above!)) break;
        if (matchesSubject(rule, metrics)) broken.push(rule);
      }
    }
    if (value as number < highest) {
      for (const rule of below) {
        if (!(value as number < rule.below!)) break;
        if (matchesSubject(rule, metrics)) broken.push(rule);
      }
    }
    if (equals.size === 0) continue;
    for (const rule of equals.get(value) ?? []) if (matchesSubject(rule, metrics)) broken.push(rule);
  }
}

function nameOfRule({ serviceName, deviceId, nodeId, clusterId }: AlertRule): string | undefined {
  if (deviceId !== undefined) return `device ${deviceId}`;
  if (serviceName !== undefined) return serviceName;
  if (nodeId !== undefined) return `node ${nodeId}`;
  return clusterId === undefined ? undefined : `cluster ${clusterId}`;
}

function byField(rules: readonly AlertRule[]): FieldRules[] {
  return [...Map.groupBy(rules, ({ field }) => field)].map(([field, rules]) => {
    const above = rules.filter((rule) => rule.above !== undefined).toSorted((a, b) => a.above! - b.above!);
    const below = rules.filter((rule) => rule.below !== undefined).toSorted((a, b) => b.below! - a.below!);
    return {
      field,
      above,
      below,
      equals: Map.groupBy(rules.filter((rule) => rule.equals !== undefined), ({ equals }) => equals),
      lowest: above[0]?.above ?? Infinity,
      highest: below[0]?.below ?? -Infinity,
    };
  });
}
