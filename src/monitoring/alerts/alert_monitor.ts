import type { DocumentStore } from "../../backends/backend.ts";
import { Alarm, type EventListener } from "../../pipeline/events.ts";
import { retry } from "../../pipeline/retry.ts";
import type { Alert, AlertSubject } from "../../records/alert.ts";
import { type AlertRule, DEFAULT_RULES } from "./alert_rules.ts";
import { ALERT, ALERT_RULE, bodiesOf } from "../document_kinds.ts";
import { DocumentWriter } from "../document_writer.ts";

/** Without metrics for longer than this nobody knows whether a condition went on holding. */
const MAX_GAP_MS = 5 * 60_000;
/** Metrics further ahead of the clock than this say nothing. */
const MAX_AHEAD_MS = MAX_GAP_MS;
/** Conditions that hold and have not fired are forgotten beyond this number, the oldest first. */
const MAX_PENDING = 10_000;

/** A condition that holds for a node or a service. */
interface Broken {
  /** Since when, by the times of the metrics. */
  since: number;
  /** The newest metrics that said so. */
  last: number;
  /** What it has led to, once it has held for long enough. */
  alert?: Alert;
}

/** A rule in the form in which it is looked at for each record. */
interface WatchedRule {
  readonly field: string;
  readonly above: number;
  readonly below: number;
  readonly equals: AlertRule["equals"];
  readonly rule: AlertRule;
}

/** Metrics of either kind, as their fields. */
type Metrics = AlertSubject & { readonly timestamp: number } & Readonly<Record<string, unknown>>;

/**
 * Looks at metrics as they are accepted. An alert fires once, when its condition has held for as long as its rule
 * says, and is resolved by the first metrics for which it does not hold. Time is that of the metrics; what comes late
 * makes no difference, nor does what is ahead of the clock.
 */
export class AlertMonitor {
  readonly #documents: DocumentStore;
  readonly #saver: DocumentWriter;
  readonly #emit: EventListener;
  readonly #alarm: Alarm;
  readonly #abort = new AbortController();
  readonly #broken = new Map<string, Broken>();
  /** When alerts were resolved, by the times of the metrics: what is older comes late. */
  readonly #ended = new Map<string, number>();
  #rules = byDataset(DEFAULT_RULES);

  /** Makes a watch with the default rules. */
  constructor(documents: DocumentStore, emit: EventListener) {
    this.#documents = documents;
    this.#alarm = new Alarm("system_metrics", emit, { isOfWatch: true });
    this.#saver = new DocumentWriter(documents, this.#alarm);
    this.#emit = emit;
  }

  /** Takes over what is stored. Where the backend is away, that is done as soon as it is back. */
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
    await Promise.race([loading, first.promise]);
  }

  /** The alerts that are stored, and those on their way there. */
  async alerts(): Promise<Alert[]> {
    const onTheirWay = this.#saver.pending; // before the others: meanwhile they arrive there
    const stored = await this.#documents.read(ALERT);
    const newest = new Map<string, Alert>();
    for (const { body } of [...stored, ...onTheirWay]) {
      const alert = body as Alert;
      const known = newest.get(alert.alertId);
      if (!known || lastChange(known) <= lastChange(alert)) newest.set(alert.alertId, alert);
    }
    return [...newest.values()];
  }

  /** From now on watches for these rules. */
  use(rules: readonly AlertRule[]): void {
    this.#rules = byDataset(rules.filter(({ isEnabled }) => isEnabled));
  }

  /** Takes it that the condition of an alert holds no longer. */
  end(alert: Alert): void {
    this.#broken.delete(keyOf(alert.rule, alert));
  }

  /** Begins anew with a rule: it was changed. */
  forget(rule: string): void {
    for (const key of this.#broken.keys()) if (key.startsWith(keyOf(rule))) this.#broken.delete(key);
  }

  /** Looks at metrics that were accepted. */
  observe(dataset: AlertRule["dataset"], metrics: Metrics): void {
    const isCalm = this.#broken.size === 0;
    for (const { field, above, below, equals, rule } of this.#rules[dataset]) {
      const value = metrics[field];
      if (value === undefined) continue; // a measure that was not taken says nothing
      const isHolding = equals === undefined
        ? value as number > above || value as number < below
        : value === equals;
      // Nearly all metrics end here, so that watching costs little: a twentieth of what it takes to accept them.
      if (!isHolding && isCalm) continue;
      if (metrics.timestamp > Date.now() + MAX_AHEAD_MS) return; // all that follows would come late
      if (!isAbout(rule, metrics)) continue;
      const key = keyOf(rule.name, metrics);
      if (isHolding) this.#hold(rule, { key, metrics, value: value as Alert["value"] });
      else this.#end(key, metrics.timestamp);
    }
  }

  /** Saves what is not saved yet, if that can be done. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#saver.close();
  }

  async #load(): Promise<void> {
    this.use(await allRules(this.#documents));
    for (const alert of await bodiesOf<Alert>(this.#documents, ALERT)) {
      const key = keyOf(alert.rule, alert);
      if (alert.resolvedAt !== undefined || this.#broken.get(key)?.alert) continue;
      const last = Math.min(alert.firedAt, Date.now()); // a clock may have been ahead
      this.#broken.set(key, { since: alert.since, last, alert });
    }
  }

  #hold(
    rule: AlertRule,
    { key, metrics, value }: { key: string; metrics: Metrics; value: Alert["value"] },
  ): void {
    const { timestamp } = metrics;
    let broken = this.#broken.get(key);
    if (!broken) {
      if (timestamp < (this.#ended.get(key) ?? 0)) return; // it came late
      this.#forgetPending();
      broken = { since: timestamp, last: timestamp };
      this.#broken.set(key, broken);
    }
    if (timestamp < broken.last) return; // it came late
    if (!broken.alert && timestamp - broken.last > MAX_GAP_MS) broken.since = timestamp;
    broken.last = timestamp;
    if (broken.alert || timestamp - broken.since < rule.durationMs) return;
    broken.alert = {
      alertId: alertIdOf(rule, metrics),
      rule: rule.name,
      severity: rule.severity,
      ...subjectOf(metrics),
      description: rule.description,
      field: rule.field,
      value,
      since: broken.since,
      firedAt: timestamp,
    };
    this.#tell("alert-fired", broken.alert, rule.dataset);
  }

  #end(key: string, timestamp: number): void {
    const broken = this.#broken.get(key);
    if (!broken || timestamp < broken.last) return;
    this.#broken.delete(key);
    if (!broken.alert) return;
    if (this.#ended.size >= MAX_PENDING) this.#ended.delete(this.#ended.keys().next().value!);
    this.#ended.set(key, timestamp);
    const dataset = broken.alert.serviceName === undefined ? "system_metrics" : "service_metrics";
    this.#tell("alert-resolved", { ...broken.alert, resolvedAt: timestamp }, dataset);
  }

  #tell(type: "alert-fired" | "alert-resolved", alert: Alert, dataset: AlertRule["dataset"]): void {
    this.#saver.save({ kind: ALERT, id: alert.alertId, body: alert });
    this.#emit({ type, dataset, message: describeAlert(alert), alert: { ...alert } });
  }

  /** Makes room where nodes break rules and are never heard of again. */
  #forgetPending(): void {
    if (this.#broken.size < MAX_PENDING) return;
    for (const [id, { alert }] of this.#broken) {
      if (alert) continue;
      this.#broken.delete(id);
      return;
    }
  }
}

function lastChange({ firedAt, resolvedAt = 0 }: Alert): number {
  return Math.max(firedAt, resolvedAt);
}

/** The default rules, and those that are stored, which take the place of default rules of the same names. */
export async function allRules(documents: DocumentStore): Promise<AlertRule[]> {
  const stored = await bodiesOf<AlertRule>(documents, ALERT_RULE);
  return [...new Map([...DEFAULT_RULES, ...stored].map((rule) => [rule.name, rule])).values()];
}

/** An alert in words, as in "critical: GPU overheating: prod/gpu-01, temperature 91". */
export function describeAlert(
  { severity, description, field, value, resolvedAt, ...subject }: Alert,
): string {
  const what = resolvedAt === undefined ? severity : "resolved";
  return `${what}: ${description}: ${nameOf(subject)}, ${field} ${value}`;
}

/** A node or a service by name. */
export function nameOf({ clusterId, nodeId, serviceName }: AlertSubject): string {
  return serviceName ?? `${clusterId}/${nodeId}`;
}

function byDataset(rules: readonly AlertRule[]): Record<AlertRule["dataset"], readonly WatchedRule[]> {
  const of = (dataset: AlertRule["dataset"]) =>
    rules.filter((rule) => rule.dataset === dataset).map((rule) => {
      const { field, above = Infinity, below = -Infinity, equals } = rule;
      return { field, above, below, equals, rule };
    });
  return { system_metrics: of("system_metrics"), service_metrics: of("service_metrics") };
}

function isAbout({ clusterId, nodeId, serviceName }: AlertSubject, metrics: AlertSubject): boolean {
  return (clusterId === undefined || clusterId === metrics.clusterId) &&
    (nodeId === undefined || nodeId === metrics.nodeId) &&
    (serviceName === undefined || serviceName === metrics.serviceName);
}

function subjectOf({ clusterId, nodeId, serviceName }: AlertSubject): AlertSubject {
  return serviceName === undefined ? { clusterId, nodeId } : { serviceName };
}

/** What a rule makes of a node or a service is known by this; of all of them, by its beginning. */
function keyOf(rule: string, subject?: AlertSubject): string {
  if (!subject) return `${rule}\0`;
  const { clusterId, nodeId, serviceName } = subject;
  return `${rule}\0${serviceName ?? `${clusterId}\0${nodeId}`}`;
}

/** An id that people can read, and that differs where a name differs: slashes within names are escaped. */
function alertIdOf({ name }: AlertRule, { clusterId, nodeId, serviceName }: AlertSubject): string {
  const names = serviceName === undefined ? [name, clusterId!, nodeId!] : [name, serviceName];
  return names.map((part) => part.replace(/[%/]/g, encodeURIComponent)).join("/");
}
