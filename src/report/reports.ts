/**
 * Reports of costs, clusters and models: the views that the dashboard shows, with the same charts.
 *
 * @module
 */
import { aggregateCosts, aggregateFields } from "../aggregation/aggregate.ts";
import { FusedReads } from "../aggregation/fused_reads.ts";
import type { Backend } from "../backends/backend.ts";
import { findAnomalies } from "../monitoring/anomalies/anomalies.ts";
import { bucketLabel as dayLabel } from "../records/periods.ts";
import { systemMetrics } from "../records/system_metrics.ts";
import { usageRecords } from "../records/usage_record.ts";
import type { WhereCondition } from "../records/where.ts";
import { allocateCosts } from "../views/allocation.ts";
import { budgetDaysView } from "../views/budgets.ts";
import { clustersView } from "../views/clusters.ts";
import { costsView } from "../views/costs.ts";
import { devicesView } from "../views/devices.ts";
import { modelsView } from "../views/models.ts";
import { burnDown, burnDownChart } from "../../web/budgets.js";
import { lines as lineChart, stackedBars } from "../../web/charts.js";
import { clusterCard, COLLECT, heat, idle, nodes, services } from "../../web/clusters.js";
import {
  averageCard,
  costSeries,
  forecastCard,
  IMPORT,
  nameOfMoney,
  ranked,
  totalCard,
} from "../../web/costs.js";
import { bucketLabel, day, groupName } from "../../web/format.js";
import { models, ownTable, tags, tokenSeries, totals, unpriced } from "../../web/models.js";
import { bucketOf } from "../../web/state.js";
import { amount, badge, cards, empty, num, table, text } from "../../web/ui.js";
import { type Report, type Tree, withBars } from "./document.ts";

export interface ReportQuery {
  /** Earliest time, epoch ms. */
  readonly startTime: number;
  /** End of the range, exclusive, epoch ms. */
  readonly endTime: number;
  /** Time zone of days. */
  readonly timeZone: string;
  /** Fields or tags to list costs by. */
  readonly groupBy: readonly string[];
  readonly where: readonly WhereCondition[];
  /** Tag of usage by which models are listed too. */
  readonly by: string;
  /** Costs of devices: estimated or billed. */
  readonly basis: "billed" | "estimated";
}

/** Groups of a chart. */
const TOP = 8;
/** Widths of charts in a page. */
const WIDTH = 1_150;
/** Most points of a line. */
const MAX_POINTS = 300;

type Parts = { title: string; content: Tree }[];

export const REPORTS: Readonly<Record<string, (backend: Backend, query: ReportQuery) => Promise<Report>>> = {
  costs: costReport,
  cluster: clusterReport,
  models: modelReport,
};

/** A report has no addresses, so its names are no links. */
function links({ timeZone }: ReportQuery, by = "") {
  return { state: { zone: timeZone, by, where: [], more: {} }, to: () => undefined };
}

function titled(title: string, { startTime, endTime, timeZone }: ReportQuery, parts: Parts): Report {
  const date = (time: number) => dayLabel({ count: 1, unit: "d" }, time, timeZone);
  const made = new Date().toISOString().slice(0, 16).replace("T", " ");
  return {
    title,
    subtitle: `${date(startTime)} to ${date(endTime - 1)} (${timeZone}). As of ${made} UTC.`,
    parts,
  };
}

async function costReport(backend: Backend, query: ReportQuery): Promise<Report> {
  const { startTime, endTime, timeZone, groupBy, where } = query;
  const range = { startTime, endTime, timeZone, where };
  const bucket = bucketOf(query);
  const [by] = groupBy;
  const reads = FusedReads.over(backend);
  const views = groupBy.map((name) =>
    costsView(reads, { ...range, groupBy: [name], top: TOP, ...(name === by ? { bucket } : {}) })
  );
  const summaries = await Promise.all(views);
  const [{ series: rows = [] }] = summaries;
  const parts: Parts = summaries[0].currencies.map((found, i) => {
    const name = nameOfMoney(found);
    const { drawn, labels, title } = costSeries(rows, { found, by, bucket, zone: timeZone });
    const chart = stackedChart({ labels, series: drawn, height: 280, title });
    const tables = summaries.map(({ currencies }, j) => ranked(links(query, groupBy[j]), currencies[i]));
    const shown = cards(
      totalCard(found),
      found.forecast && forecastCard("Forecast", found),
      averageCard(found),
    );
    return { title: name, content: [shown, chart, ...tables] };
  });
  if (parts.length === 0) parts.push({ title: "Costs", content: empty("No costs in this range.", IMPORT) });
  parts.push(...await budgetParts(backend, query), ...await anomalyParts(backend, query));
  return titled("Costs", query, parts);
}

/** A chart of stacked bars; in Markdown the bars of their sums. */
function stackedChart(options: Omit<Parameters<typeof stackedBars>[0], "width">): Tree {
  const { labels, series } = options;
  const values = labels.map((_, i) => series.reduce((sum, { values }) => sum + (values[i] ?? 0), 0));
  return withBars(stackedBars({ ...options, width: WIDTH }), { labels, series: [{ name: "total", values }] });
}

function burnDownBars(budget: object, now: number): Parameters<typeof withBars>[1] {
  const { labels, left, late } = burnDown(budget, now);
  return { labels, series: [{ name: "left", values: left.map((value, i) => value ?? late?.[i]) }] };
}

async function budgetParts(backend: Backend, { endTime }: ReportQuery): Promise<Parts> {
  const at = Math.min(endTime, Date.now()) - 1;
  const { budgets } = await budgetDaysView(backend, { at });
  if (budgets.length === 0) return [];
  const content = budgets.map((budget) => [
    "div",
    { class: "budget" },
    ["h3", {}, budget.name, " ", badge(budget.status)],
    [
      "p",
      {},
      amount(budget.spent, budget.currency),
      " of ",
      amount(budget.amount, budget.currency),
      ` ${budget.currency}`,
    ],
    withBars(burnDownChart(budget, { width: 520, now: at }), burnDownBars(budget, at)),
  ]);
  return [{ title: "Budgets", content: ["div", { class: "budgets" }, content] }];
}

async function anomalyParts(backend: Backend, { startTime, endTime, timeZone }: ReportQuery): Promise<Parts> {
  const found = await findAnomalies(backend, { startTime, endTime, timeZone });
  if (found.length === 0) return [];
  const content = table("Anomalies", found.toReversed(), [
    text("day", (row) => day(row.startTime, timeZone)),
    text("kind", ({ kind }) => kind),
    text("group", groupName),
    num("cost", (row) => [amount(row.amount, row.currency), ` ${nameOfMoney(row)}`]),
    num("expected", ({ expected }) => String(Number(expected.toPrecision(6)))),
  ]);
  return [{ title: "Anomalies", content }];
}

async function clusterReport(backend: Backend, query: ReportQuery): Promise<Report> {
  const { startTime, endTime, timeZone, basis } = query;
  const at = Math.min(endTime, Date.now());
  const health = await clustersView(backend, { at, windowMs: at - startTime });
  const devices = await devicesView(backend, { startTime, endTime, timeZone, basis });
  const context = links(query);
  const costs = await aggregateCosts(backend, { startTime, endTime, timeZone, groupBy: ["resourceId"] });
  const names = new Set(health.nodes.map(({ nodeId }) => nodeId));
  const ofNodes = costs.filter(({ group }) => names.has(group!.resourceId!));
  const parts: Parts = [
    ...(health.clusters.length === 0
      ? [{ title: "Clusters", content: empty("No metrics in this range.", COLLECT) }]
      : [
        { title: "Clusters", content: cards(health.clusters.map(clusterCard)) },
        { title: "Load", content: await loadChart(backend, query) },
        { title: "Nodes", content: nodes(context, health) },
      ]),
  ];
  if (ofNodes.length > 0) parts.push({ title: "Costs of nodes", content: costTable(ofNodes) });
  if (devices.devices.length > 0) {
    parts.push({ title: "GPU utilization by node", content: heat(context, devices) });
    parts.push({ title: "Idle GPUs", content: idle(context, devices) });
  }
  if (health.services.length > 0) parts.push({ title: "Services", content: services(context, health) });
  const [node] = names;
  const of = names.size === 1 ? node : health.clusters.map(({ clusterId }) => clusterId).join(", ");
  return titled(`Load and cost of ${of || "clusters"}`, query, parts);
}

function costTable(
  rows: readonly { group?: Record<string, string | null>; currency: string; total: string; count: number }[],
): Tree {
  return table("Costs of nodes", [...rows], [
    text("node", groupName),
    text("currency", nameOfMoney),
    num("total", (row) => amount(row.total, row.currency)),
    num("costs", (row) => String(row.count)),
  ]);
}

/** Mean load of all nodes over time. */
async function loadChart(backend: Backend, { startTime, endTime, timeZone }: ReportQuery): Promise<Tree> {
  const fields = { cpuUsage: ["avg"], memoryUsage: ["avg"], gpuUsage: ["avg"] };
  const spans: [string, number][] = [["1s", 1e3], ["10s", 1e4], ["1m", 6e4], ["15m", 9e5], ["1h", 36e5], [
    "1d",
    864e5,
  ]];
  const [bucket] = spans.find(([, ms]) => (endTime - startTime) / ms <= MAX_POINTS) ?? ["1w"];
  const rows = await aggregateFields(backend, systemMetrics, {
    startTime,
    endTime,
    timeZone,
    bucket,
    fields,
  });
  if (rows.length === 0) return ["p", {}, "No metrics in this range."];
  const names = { cpuUsage: "CPU", memoryUsage: "memory", gpuUsage: "GPU" };
  const series = Object.entries(names).map(([field, name], color) => ({
    name,
    color,
    values: rows.map(({ fields }) => fields[field].avg as number | null),
  })).filter(({ values }) => values.some((value) => value !== null));
  const labels = rows.map((row) =>
    bucketLabel(row.startTime!, { bucket: bucket.replace("s", "m"), zone: timeZone })
  );
  const title = "Mean load of all nodes in percent";
  const legend = series.map(({ name, color }) => [legendOf(color), `${name}, `]);
  return [
    withBars(lineChart({ labels, series, width: WIDTH, title }), { labels, series }),
    ["p", { class: "quiet" }, legend, "the mean of all nodes in percent."],
  ];
}

function legendOf(color: number): Tree {
  return ["svg", { class: "swatch", viewBox: "0 0 10 10", width: 10, height: 10 }, ["rect", {
    class: `s${color}`,
    width: 10,
    height: 10,
  }]];
}

async function modelReport(backend: Backend, query: ReportQuery): Promise<Report> {
  const { startTime, endTime, timeZone, by } = query;
  const range = { startTime, endTime, timeZone };
  const view = await modelsView(backend, { ...range, by });
  if (view.models.length === 0) {
    return titled("Language models", query, [{ title: "Usage", content: totals(view) }]);
  }
  const allocation = await allocateCosts(backend, { ...range, by: "model" });
  const bucket = bucketOf(query);
  const fields = { inputTokens: ["sum"], outputTokens: ["sum"] };
  const rows = await aggregateFields(backend, usageRecords, {
    ...range,
    bucket,
    fields,
    groupBy: ["model"],
    top: TOP,
    emptyBuckets: true,
  });
  const { times, drawn } = tokenSeries(rows);
  const labels = times.map((time) => bucketLabel(time, { bucket, zone: timeZone }));
  const chart = stackedChart({ labels, series: drawn, title: "Tokens by model over time" });
  const context = links(query);
  return titled("Language models", query, [
    { title: "Usage", content: [totals(view), times.length > 0 && chart] },
    { title: "Models", content: models(context, view) },
    { title: `By ${by}`, content: tags(context, view) },
    ...(allocation.rows.length > 0
      ? [{ title: "Own GPUs beside vendors", content: ownTable(view, allocation) }]
      : []),
    ...(view.unpriced.length > 0 ? [{ title: "Models without a price", content: unpriced(view) }] : []),
  ]);
}
