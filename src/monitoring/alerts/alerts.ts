import type { DocumentStore } from "../../backends/backend.ts";
import { ValidationError } from "../../errors.ts";
import { type Alert, ALERT_SEVERITIES } from "../../records/alert.ts";
import { acceptRule, type AlertRule, type AlertRuleInput } from "./alert_rules.ts";
import { type AlertMonitor, allRules } from "./alert_monitor.ts";
import { isFlag, isText, takeFields } from "../../records/field_checks.ts";
import { ACKNOWLEDGEMENT, ALERT, ALERT_RULE, bodiesOf } from "../document_kinds.ts";

/** Filter of alerts. */
export interface AlertsQuery {
  /**
   * Include resolved alerts.
   *
   * @default {false}
   */
  includeResolved?: boolean;
}

/** Acknowledgement of an alert. */
interface Acknowledgement {
  readonly alertId: string;
  /** Time at which the acknowledged alert fired. */
  readonly firedAt: number;
  readonly at: number;
  readonly by?: string;
}

/** Operations on alerts. */
export class Alerts {
  readonly #documents: DocumentStore;
  readonly #monitor: AlertMonitor;

  /** Stores changes, and applies them to the monitor. */
  constructor(documents: DocumentStore, watch: AlertMonitor) {
    this.#documents = documents;
    this.#monitor = watch;
  }

  async setRule(input: AlertRuleInput): Promise<AlertRule> {
    const rule = acceptRule(input);
    const before = (await allRules(this.#documents)).find(({ name }) => name === rule.name);
    await this.#documents.write({ kind: ALERT_RULE, id: rule.name, body: rule });
    await this.#apply(rule.name, { isNew: !before || !isSame(before, rule) });
    return rule;
  }

  async removeRule(name: string): Promise<boolean> {
    const wasThere = await this.#documents.delete(ALERT_RULE, name);
    await this.#apply(name, { isNew: wasThere });
    return wasThere;
  }

  /** The worst first, then the newest. */
  async list(query: AlertsQuery = {}): Promise<Alert[]> {
    const { includeResolved = false } = takeFields("a query of alerts", query, {
      fields: { includeResolved: isFlag },
    });
    const found = await this.#monitor.alerts();
    const notes = await bodiesOf<Acknowledgement>(this.#documents, ACKNOWLEDGEMENT);
    const noteOf = new Map(notes.map((note) => [note.alertId, note]));
    return found.filter(({ resolvedAt }) => includeResolved || resolvedAt === undefined)
      .map((alert) => withNote(alert, noteOf.get(alert.alertId)))
      .toSorted((a, b) => rank(b) - rank(a) || b.firedAt - a.firedAt);
  }

  async acknowledge(alertId: string, options: { by?: string } = {}): Promise<Alert> {
    const { by } = takeFields("an acknowledgement", options, { fields: { by: isText } });
    const alert = await this.#find(alertId);
    if (!by && alert.acknowledgedAt !== undefined) return alert; // keeps the name that is known
    const note = { alertId, firedAt: alert.firedAt, at: Date.now(), ...(by ? { by: by as string } : {}) };
    await this.#documents.write({ kind: ACKNOWLEDGEMENT, id: alertId, body: note });
    return withNote(alert, note);
  }

  async resolve(alertId: string): Promise<Alert> {
    return await this.#end(await this.#find(alertId));
  }

  async #end(active: Alert): Promise<Alert> {
    const alert = { ...active, resolvedAt: Date.now() };
    await this.#documents.write({ kind: ALERT, id: alert.alertId, body: alert });
    this.#monitor.end(alert);
    return alert;
  }

  /** Applies the stored rules. Resolves alerts of removed rules, which nothing else would. */
  async #apply(name: string, { isNew }: { isNew: boolean }): Promise<void> {
    this.#monitor.use(await allRules(this.#documents));
    if (!isNew) return;
    for (const alert of await this.list()) if (alert.rule === name) await this.#end(alert);
    this.#monitor.forget(name);
  }

  async #find(alertId: string): Promise<Alert> {
    const active = (await this.list()).find((alert) => alert.alertId === alertId);
    if (active) return active;
    const expected = "the id of an active alert, as the list of alerts shows it";
    throw new ValidationError({
      subject: "an alert",
      field: "alertId",
      value: alertId,
      expected,
      code: "NOT_FOUND",
    });
  }
}

/** A backend may give the fields in another order. */
function isSame(a: AlertRule, b: AlertRule): boolean {
  const [one, other] = [a, b].map((rule) => JSON.stringify(Object.entries(rule).toSorted()));
  return one === other;
}

function rank({ severity }: Alert): number {
  return ALERT_SEVERITIES.indexOf(severity);
}

function withNote(alert: Alert, note: Acknowledgement | undefined): Alert {
  if (note?.firedAt !== alert.firedAt) return alert; // acknowledges an earlier one
  return { ...alert, acknowledgedAt: note.at, ...(note.by === undefined ? {} : { acknowledgedBy: note.by }) };
}
