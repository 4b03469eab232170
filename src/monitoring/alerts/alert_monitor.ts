import { isDeepStrictEqual } from "node:util";
import type { DocumentStore } from "../../backends/backend.ts";
import { Alarm, type EventListener } from "../../pipeline/events.ts";
import { retry } from "../../pipeline/retry.ts";
import type { Alert, AlertSubject } from "../../records/alert.ts";
import { ALERT_DATASETS, type AlertRule, DEFAULT_RULES } from "./alert_rules.ts";
import { isBroken, matchesSubject, type Metrics, RuleIndex } from "./rule_index.ts";
import { ALERT, ALERT_RULE, bodiesOf } from "../document_kinds.ts";
import { DocumentWriter } from "../document_writer.ts";

/** A condition counts as interrupted where no metrics came for longer than this. */
const MAX_GAP_MS = 5 * 60_000;
/** Metrics further ahead of the clock than this are ignored. */
const MAX_AHEAD_MS = MAX_GAP_MS;
/** The most conditions that hold and have not fired. Each takes about half a KiB. */
const MAX_PENDING = 100_000;
const TOO_MANY_CONDITIONS =
  `${MAX_PENDING} conditions hold and have not fired: further nodes are not watched until some have fired or ended. ` +
  "Check whether node names change with every report.";
/** Interval at which changes of other processes are read. */
const REFRESH_MS = 60_000;
/** Interval of the search for silent conditions when there are many. */
const SWEEP_MS = 10_000;

/** A rule that a node or a service breaks. */
interface Violation {
  /** The start, by the times of the metrics. */
  since: number;
  /** The time of the newest metrics that break the rule. */
  last: number;
  /** Times at which those were accepted. */
  seenAt: number;
  /** The alert, once the condition has held for long enough. */
  alert?: Alert;
}

/**
 * Watches metrics as they are accepted. An alert fires once, when its condition has held for as long as its rule says,
 * and is resolved by the first metrics for which it does not hold. Time is that of the metrics. Metrics that are late or
 * ahead of the clock change nothing.
 */
export class AlertMonitor {
  readonly #documents: DocumentStore;
  readonly #writer: DocumentWriter;
  readonly #emit: EventListener;
  readonly #alarm: Alarm;
  /** Raised while there are too many conditions to watch. */
  readonly #overload: Alarm;
  readonly #abort = new AbortController();
  #timer: ReturnType<typeof setInterval> | undefined;
  /** Violations by node or service, and by the name of the rule. */
  readonly #violations = new Map<string, Map<string, Violation>>();
  /** The number of violations that have not fired. */
  #pending = 0;
  #sweptAt = -Infinity;
  /** Times at which alerts were resolved, by the times of the metrics: older metrics are late. */
  readonly #resolved = new Map<string, number>();
  #indexes = indexesOf(DEFAULT_RULES);
  #rules = byName(DEFAULT_RULES);
  /** The rules that the metrics at which the monitor looks break; kept, as nearly all break none. */
  readonly #violated: AlertRule[] = [];

  /** Creates a monitor with the default rules. */
  constructor(documents: DocumentStore, emit: EventListener) {
    this.#documents = documents;
    this.#alarm = new Alarm("system_metrics", emit, { isMonitoring: true });
    this.#overload = new Alarm("system_metrics", emit, { isMonitoring: true });
    this.#writer = new DocumentWriter(documents, this.#alarm);
    this.#emit = emit;
  }

  /** Loads rules and active alerts. Retries in the background while the backend cannot be reached. */
  async load(): Promise<void> {
    const first = Promise.withResolvers<void>();
    const { signal } = this.#abort;
    const onFailure = (error: unknown) => {
      this.#alarm.raise(error);
      first.resolve();
    };
    const loading = retry(() => this.#load(), { signal, onFailure }).then(
      () => this.#alarm.clear(),
      () => {},
    );
    this.#timer = setInterval(() => void this.refresh().catch(() => {}), REFRESH_MS);
    Deno.unrefTimer(this.#timer);
    await Promise.race([loading, first.promise]);
  }

  /** Takes over what other processes changed: rules, and alerts that were resolved by hand. */
  async refresh(): Promise<void> {
    const rules = await allRules(this.#documents);
    const before = this.#rules;
    this.use(rules);
    const names = new Set([...before.keys(), ...this.#rules.keys()]);
    for (const name of names) {
      if (!isDeepStrictEqual(before.get(name), this.#rules.get(name))) this.forget(name);
    }
    for (const alert of await bodiesOf<Alert>(this.#documents, ALERT)) {
      const known = this.#violations.get(subjectKey(alert))?.get(alert.rule)?.alert;
      if (alert.resolvedAt !== undefined && known?.firedAt === alert.firedAt) this.end(alert);
    }
  }

  /** Returns the alerts that are stored, and those that are being stored. */
  async alerts(): Promise<Alert[]> {
    const unsaved = this.#writer.pending; // read first, because they may be stored meanwhile
    const stored = await this.#documents.read(ALERT);
    const newest = new Map<string, Alert>();
    for (const { body } of [...stored, ...unsaved]) {
      const alert = body as Alert;
      const known = newest.get(alert.alertId);
      if (!known || lastChange(known) <= lastChange(alert)) newest.set(alert.alertId, alert);
    }
    return [...newest.values()];
  }

  /** Replaces the rules. */
  use(rules: readonly AlertRule[]): void {
    const enabled = rules.filter(({ isEnabled }) => isEnabled);
    this.#indexes = indexesOf(enabled);
    this.#rules = byName(enabled);
  }

  /** Ends the violation of an alert that was resolved. */
  end(alert: Alert): void {
    this.#remove(subjectKey(alert), alert.rule);
  }

  /** Ends all violations of a rule that was changed. */
  forget(rule: string): void {
    for (const subject of this.#violations.keys()) this.#remove(subject, rule);
  }

  /** Looks at metrics that were accepted. */
  observe(dataset: AlertRule["dataset"], metrics: Metrics): void {
    const violated = this.#violated;
    violated.length = 0;
    this.#indexes[dataset].collectViolated(metrics, violated);
    // Nearly all metrics end here, so that watching costs little: a twentieth of what it takes to accept them.
    if (violated.length === 0 && this.#violations.size === 0) return;
    const subject = subjectKey(metrics);
    const violations = this.#violations.get(subject);
    if (violated.length === 0 && !violations) return;
    const now = Date.now();
    if (metrics.timestamp > now + MAX_AHEAD_MS) return; // all that follows would be late
    for (const name of violations?.keys() ?? []) {
      const rule = this.#rules.get(name);
      if (rule?.dataset !== dataset || !matchesSubject(rule, metrics)) continue;
      const value = metrics[rule.field];
      if (value !== undefined && !isBroken(rule, value)) this.#end(subject, name, metrics.timestamp);
    }
    for (const rule of violated) this.#recordViolation(rule, { subject, metrics, now });
  }

  /** Stores what is not stored yet, if the backend can be reached. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#abort.abort();
    await this.#writer.close();
  }

  async #load(): Promise<void> {
    this.use(await allRules(this.#documents));
    const seenAt = Date.now();
    for (const alert of await bodiesOf<Alert>(this.#documents, ALERT)) {
      const subject = subjectKey(alert);
      if (alert.resolvedAt !== undefined || this.#violations.get(subject)?.get(alert.rule)?.alert) continue;
      const last = Math.min(alert.firedAt, seenAt); // a clock may have been ahead
      this.#remove(subject, alert.rule);
      this.#add(subject, alert.rule, { since: alert.since, last, seenAt, alert });
    }
  }

  #recordViolation(
    rule: AlertRule,
    { subject, metrics, now }: { subject: string; metrics: Metrics; now: number },
  ): void {
    const { timestamp } = metrics;
    let violation = this.#violations.get(subject)?.get(rule.name);
    if (!violation) {
      if (timestamp < (this.#resolved.get(pairKey(subject, rule.name)) ?? 0)) return; // it is late
      if (!this.#hasRoom(now)) return;
      violation = { since: timestamp, last: timestamp, seenAt: now };
      this.#add(subject, rule.name, violation);
    }
    if (timestamp < violation.last) return; // it is late
    if (!violation.alert && timestamp - violation.last > MAX_GAP_MS) violation.since = timestamp;
    violation.last = timestamp;
    violation.seenAt = now;
    if (violation.alert || timestamp - violation.since < rule.durationMs) return;
    violation.alert = alertOf(rule, { metrics, since: violation.since });
    this.#pending--;
    this.#report("alert-fired", violation.alert, rule.dataset);
  }

  #end(subject: string, rule: string, timestamp: number): void {
    const violation = this.#violations.get(subject)?.get(rule);
    if (!violation || timestamp < violation.last) return;
    this.#remove(subject, rule);
    const { alert } = violation;
    if (!alert) return;
    if (this.#resolved.size >= MAX_PENDING) this.#resolved.delete(this.#resolved.keys().next().value!);
    this.#resolved.set(pairKey(subject, rule), timestamp);
    this.#report("alert-resolved", { ...alert, resolvedAt: timestamp }, datasetOfSubject(alert));
  }

  #add(subject: string, rule: string, violation: Violation): void {
    const violations = this.#violations.get(subject);
    if (violations) violations.set(rule, violation);
    else this.#violations.set(subject, new Map([[rule, violation]]));
    if (!violation.alert) this.#pending++;
  }

  #remove(subject: string, rule: string): void {
    const violations = this.#violations.get(subject);
    const violation = violations?.get(rule);
    if (!violations || !violation) return;
    violations.delete(rule);
    if (violations.size === 0) this.#violations.delete(subject);
    if (!violation.alert) this.#pending--;
  }

  /**
   * Returns true if another condition can be watched. Conditions without metrics for so long that they count as
   * interrupted are removed first. One that is reported again and again never is, as its alert would never fire.
   */
  #hasRoom(now: number): boolean {
    if (this.#pending >= MAX_PENDING && Math.abs(now - this.#sweptAt) >= SWEEP_MS) {
      this.#sweptAt = now;
      for (const [subject, violations] of this.#violations) {
        for (const [rule, { alert, seenAt }] of violations) {
          if (!alert && now - seenAt > MAX_GAP_MS) this.#remove(subject, rule);
        }
      }
    }
    if (this.#pending < MAX_PENDING) {
      this.#overload.clear();
      return true;
    }
    this.#overload.raise(new Error(TOO_MANY_CONDITIONS));
    return false;
  }

  #report(type: "alert-fired" | "alert-resolved", alert: Alert, dataset: AlertRule["dataset"]): void {
    this.#writer.save({ kind: ALERT, id: alert.alertId, body: alert });
    this.#emit({ type, dataset, message: describeAlert(alert), alert: { ...alert } });
  }
}

function lastChange({ firedAt, resolvedAt = 0 }: Alert): number {
  return Math.max(firedAt, resolvedAt);
}

/** Returns the default rules and the stored ones. A stored rule replaces the default rule of its name. */
export async function allRules(documents: DocumentStore): Promise<AlertRule[]> {
  const stored = await bodiesOf<AlertRule>(documents, ALERT_RULE);
  return [...new Map([...DEFAULT_RULES, ...stored].map((rule) => [rule.name, rule])).values()];
}

/** Describes an alert, as in "critical: GPU overheating: prod/gpu-01, temperature 91". */
export function describeAlert(
  { severity, description, field, value, resolvedAt, ...subject }: Alert,
): string {
  const what = resolvedAt === undefined ? severity : "resolved";
  return `${what}: ${description}: ${nameOf(subject)}, ${field} ${value}`;
}

/** Returns the name of a node, a device or a service. */
export function nameOf({ clusterId, nodeId, deviceId, serviceName }: AlertSubject): string {
  return serviceName ?? [clusterId, nodeId, deviceId].filter((id) => id !== undefined).join("/");
}

function indexesOf(rules: readonly AlertRule[]): Record<AlertRule["dataset"], RuleIndex> {
  const of = (dataset: AlertRule["dataset"]) =>
    new RuleIndex(rules.filter((rule) => rule.dataset === dataset));
  return Object.fromEntries(ALERT_DATASETS.map((dataset) => [dataset, of(dataset)])) as Record<
    AlertRule["dataset"],
    RuleIndex
  >;
}

function byName(rules: readonly AlertRule[]): ReadonlyMap<string, AlertRule> {
  return new Map(rules.map((rule) => [rule.name, rule]));
}

function alertOf(rule: AlertRule, { metrics, since }: { metrics: Metrics; since: number }): Alert {
  return {
    alertId: alertIdOf(rule, metrics),
    rule: rule.name,
    severity: rule.severity,
    ...subjectOf(metrics),
    description: rule.description,
    field: rule.field,
    value: metrics[rule.field] as Alert["value"],
    since,
    firedAt: metrics.timestamp,
  };
}

function subjectOf({ clusterId, nodeId, deviceId, serviceName }: AlertSubject): AlertSubject {
  if (serviceName !== undefined) return { serviceName };
  return { clusterId, nodeId, ...(deviceId === undefined ? {} : { deviceId }) };
}

/** Returns the dataset whose metrics have such a subject. */
function datasetOfSubject({ deviceId, serviceName }: AlertSubject): AlertRule["dataset"] {
  if (serviceName !== undefined) return "service_metrics";
  return deviceId === undefined ? "system_metrics" : "device_metrics";
}

/** Returns the key of a node, a device or a service. */
function subjectKey({ clusterId, nodeId, deviceId, serviceName }: AlertSubject): string {
  if (serviceName !== undefined) return serviceName;
  return deviceId === undefined ? `${clusterId}\0${nodeId}` : `${clusterId}\0${nodeId}\0${deviceId}`;
}

/** Returns the key of a rule and a node or a service. */
function pairKey(subject: string, rule: string): string {
  return `${rule}\0${subject}`;
}

/** Returns a readable id, unique for each rule and subject: slashes within names are escaped. */
export function alertIdOf(
  { name }: Pick<AlertRule, "name">,
  { clusterId, nodeId, deviceId, serviceName }: AlertSubject,
): string {
  const names = serviceName === undefined ? [name, clusterId!, nodeId!] : [name, serviceName];
  if (deviceId !== undefined) names.push(deviceId);
  return names.map((part) => part.replace(/[%/]/g, encodeURIComponent)).join("/");
}
