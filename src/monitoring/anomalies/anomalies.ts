import { aggregateCosts, type CostAggregate } from "../../aggregation/aggregate.ts";
import { invalidAggregate } from "../../aggregation/aggregate_query.ts";
import type { Backend } from "../../backends/backend.ts";
import type { CostAnomaly } from "../../records/anomaly.ts";
import { DAY_MS } from "../../records/calendar.ts";
import { costEntries } from "../../records/cost_entry.ts";
import { acceptQuery, type CostEntriesQuery, queryFields } from "../../records/query.ts";
import type { CostFinding } from "../cost_findings.ts";
import { ANOMALY } from "../document_kinds.ts";
import { isAnything, takeFields } from "../../records/field_checks.ts";
import { CostFeed, DayCalendar, type DayTotal } from "./cost_feed.ts";
import { HISTORY_DAYS } from "./series_detector.ts";

/** Time range and groups of a search for anomalies. */
export interface AnomalyQuery extends Omit<CostEntriesQuery, "limit" | "order"> {
  /**
   * The fields and tags whose values are the series.
   *
   * @default {["category", "serviceName"]}
   */
  groupBy?: readonly string[];
}

const SERIES = ["category", "serviceName"];
/** The most series: each takes 2 KiB. */
const MAX_SERIES = 10_000;
/** Days that are read at once. */
const DAYS_AT_ONCE = 14;
/** Time after a day in which more costs of it may come, unless there are costs of a later day. */
const LAG_MS = 2 * DAY_MS;
/** Anomalies of these days are reported; older ones are no news. */
const NEWS_DAYS = 35;

/** Known options. Values are checked as in other queries. */
const FIELDS = Object.fromEntries(
  [...queryFields(costEntries), "groupBy"].filter((field) => field !== "limit" && field !== "order")
    .map((field) => [field, isAnything]),
);

/**
 * Finds the days with unusual costs. The backend adds up the costs of each day, two weeks at a time.
 *
 * @throws {ValidationError} If the query is wrong, or has more than 10,000 series.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function findAnomalies(backend: Backend, query: AnomalyQuery = {}): Promise<CostAnomaly[]> {
  const given = takeFields("a query of anomalies", query, { fields: FIELDS }) as AnomalyQuery;
  const { groupBy = SERIES, ...selection } = given;
  const now = Date.now();
  const { endTime = now, startTime = endTime - 30 * DAY_MS } = acceptQuery(costEntries, selection);
  if (startTime === 0) {
    throw invalidAggregate(costEntries, { field: "startTime", value: 0, expected: "a time" });
  }
  acceptQuery(costEntries, { startTime, endTime }); // where one of them was not given
  const { timeZone = "UTC" } = selection;
  const calendar = new DayCalendar(timeZone);
  const first = calendar.dayOf(startTime);
  const feeds = new Map<string, Progress>();
  // Future days are not judged, even if they have costs.
  const days = {
    first: Math.max(0, first - HISTORY_DAYS),
    endTime: Math.min(endTime, now + DAY_MS),
    calendar,
  };
  for await (const [day, rows] of readDays(backend, { ...selection, groupBy, timeZone }, days)) {
    for (const [name, totals] of Map.groupBy(rows, ({ currency, basis }) => `${currency} ${basis}`)) {
      const [{ currency, basis }] = totals;
      const progress = feeds.getOrInsertComputed(name, () => ({
        feed: new CostFeed({ currency, ...(basis ? { basis } : {}) }, calendar),
        next: day,
        found: [],
      }));
      observeUntil(progress, day);
      progress.found.push(...progress.feed.observe(progress.next++, totalsOf(totals)));
      if (progress.feed.size > MAX_SERIES) {
        const expected = `fields with up to ${MAX_SERIES} series of costs`;
        throw invalidAggregate(costEntries, { field: "groupBy", value: groupBy.join(), expected });
      }
    }
  }
  const until = Math.min(endTime, now);
  const found = [...feeds.values()].flatMap((progress) => {
    const newest = calendar.startOf(progress.next - 1);
    observeUntil(progress, calendar.dayOf(Math.min(until, now - LAG_MS)));
    return progress.found.filter(({ kind, startTime, endTime }) => {
      if (startTime < calendar.startOf(first)) return false;
      if (kind === "high" || kind === "new") return true;
      return endTime <= until && (startTime < newest || endTime + LAG_MS <= now); // else more may come
    });
  });
  return found.toSorted((a, b) => a.startTime - b.startTime);
}

/** A feed, its next day, and what was found in it. */
interface Progress {
  readonly feed: CostFeed;
  next: number;
  readonly found: CostAnomaly[];
}

/** Takes days without costs. */
function observeUntil(progress: Progress, day: number): void {
  while (progress.next < day) progress.found.push(...progress.feed.observe(progress.next++, new Map()));
}

function totalsOf(rows: readonly CostAggregate[]): Map<string, DayTotal> {
  return new Map(rows.map(({ group = {}, total }) => [JSON.stringify(group), { group, total }]));
}

/** Reads the totals of each day that has costs, by series. */
async function* readDays(
  backend: Backend,
  query: AnomalyQuery,
  { first, endTime, calendar }: { first: number; endTime: number; calendar: DayCalendar },
): AsyncGenerator<[day: number, rows: CostAggregate[]]> {
  for (let day = first; calendar.startOf(day) < endTime; day += DAYS_AT_ONCE) {
    const rows = await aggregateCosts(backend, {
      ...query,
      startTime: calendar.startOf(day),
      endTime: Math.min(calendar.startOf(day + DAYS_AT_ONCE), endTime),
      bucket: "1d",
    });
    for (const [start, found] of Map.groupBy(rows, ({ startTime }) => startTime!)) {
      yield [calendar.dayOf(start), found];
    }
  }
}

/** Finds anomalies of the last weeks that are not recorded, and forgets old ones. */
export async function newAnomalies(backend: Backend): Promise<CostFinding[]> {
  const { documents } = backend;
  const startTime = Date.now() - NEWS_DAYS * DAY_MS;
  const found = await findAnomalies(backend, { startTime });
  const recorded = new Set<string>();
  for (const { id, body } of await documents.read(ANOMALY)) {
    if ((body as CostAnomaly).startTime < startTime - DAY_MS) await documents.delete(ANOMALY, id);
    else recorded.add(id);
  }
  return found.map(findingOf).filter(({ id }) => !recorded.has(id));
}

function findingOf(found: CostAnomaly): CostFinding {
  const anomaly = { ...found, at: Date.now() };
  return {
    id: anomaly.anomalyId,
    event: { type: "cost-anomaly", dataset: "cost_entries", message: describeAnomaly(anomaly), anomaly },
  };
}

/** Describes an anomaly in words. */
export function describeAnomaly(
  { kind, group, currency, basis, amount, startTime, expected }: CostAnomaly,
): string {
  const names = Object.values(group).filter((value) => value !== null);
  const what = names.join(", ") || (Object.keys(group).length === 0 ? "all costs" : "(none)");
  const day = new Date(startTime).toISOString().slice(0, 10);
  const money = basis ? `${currency} (${basis})` : currency;
  const usual = `about ${Number(expected.toPrecision(6))}`;
  if (kind === "new") return `${what}: new, ${amount} ${money} on ${day}`;
  if (kind === "stopped") return `${what}: no costs on ${day}, where ${usual} ${money} are expected`;
  return `${what}: ${amount} ${money} on ${day}, where ${usual} are expected`;
}
