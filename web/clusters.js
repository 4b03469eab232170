// @ts-check
/** Clusters: nodes and services with health and age, use of GPUs, idle ones and their cost, and the page of a node. */
import { heatmap, shareBar } from "./charts.js";
import { nameOfMoney } from "./costs.js";
import { datasetsOf } from "./data.js";
import { bucketOfRange, rangeParams } from "./state.js";
import { bytes, count, dateTime, percent, short, timeOf } from "./format.js";
import { ageOf, linesOf, timeSeries } from "./series.js";
import { h } from "./tree.js";
import {
  amount,
  badge,
  button,
  card,
  cards,
  code,
  empty,
  hidden,
  link,
  num,
  panel,
  priced,
  quiet,
  scroll,
  select,
  shortOr,
  table,
  text,
  wide,
} from "./ui.js";

/** @import { Context, Links, Page } from "./main.js" */

/** Command that brings metrics. */
export const COLLECT = "openfinops collect --duration 10s --cost-per-hour 2.50";
/** Nodes of a heatmap that are shown at once. */
const MAX_NODES = 200;

/** @type {Page} */
export const clustersPage = {
  name: "clusters",
  title: "Clusters",
  filters: ["range", "zone"],
  tools: ({ state, go }) => [
    select("Cost basis", {
      value: state.more.basis ?? "estimated",
      options: [["estimated", "estimated"], ["billed", "billed"]],
      onchange: (basis) => go({ more: { ...state.more, basis } }),
    }),
  ],
  show: (context) => context.state.more.node ? node(context) : overview(context),
};

/** @param {Context} context */
function overview(context) {
  const { state, ask, once } = context;
  const { at, basis } = state.more;
  const readHealth = once(() => ask("views/clusters", { "time-zone": state.zone, at }));
  const readDevices = once(() => ask("views/devices", { ...rangeParams(state), basis }));
  return [
    panel(context, { kind: "plain" }, async () => clusterCards(context, await readHealth())),
    panel(context, { title: "GPU utilization by node" }, async () => heat(context, await readDevices())),
    panel(context, { title: "Idle GPUs" }, async () => idle(context, await readDevices())),
    panel(context, { title: "Nodes" }, async () => nodes(context, await readHealth())),
    panel(context, { title: "Services" }, async () => services(context, await readHealth())),
  ];
}

/** @param {any} cluster Health of a cluster. */
export const clusterCard = (cluster) =>
  card(cluster.clusterId, [String(cluster.score), " ", badge(cluster.status)], [
    `${count(cluster.nodes)} ${cluster.nodes === 1 ? "node" : "nodes"}`,
    ...["warning", "critical", "down"].filter((status) => cluster.nodesBy[status] > 0).map((status) =>
      `, ${cluster.nodesBy[status]} ${status}`
    ),
    cluster.gpuUsage !== undefined && ` · GPU ${percent(cluster.gpuUsage, 0)}`,
    cluster.cpuUsage !== undefined && ` · CPU ${percent(cluster.cpuUsage, 0)}`,
    cluster.costPerHour !== undefined && ` · ${short(cluster.costPerHour)} an hour`,
  ]);

/** @param {Context} context */
async function clusterCards(context, /** @type {any} */ { clusters, at }) {
  const { state, ask, go } = context;
  if (clusters.length === 0) {
    const { datasets } = await ask("views/data");
    const newest = datasetsOf(datasets).find(({ dataset }) => dataset === "system_metrics")?.newest;
    if (newest === undefined) {
      return empty("No metrics yet.", COLLECT);
    }
    const when = dateTime(newest, state.zone);
    const show = () => go({ more: { ...state.more, at: new Date(timeOf(newest)).toISOString() } });
    return [
      empty(`No node has reported in the last five minutes. The newest metrics are from ${when}.`),
      h("p", {}, button("Show the health at that time", show)),
    ];
  }
  return [
    cards(clusters.map(clusterCard)),
    state.more.at && quiet(
      `At ${dateTime(at, state.zone)} (${state.zone}). `,
      link(context.to({ more: { ...state.more, at: "" } }), "Show now"),
    ),
  ];
}

/** @param {any} device */
function deviceName({ deviceIndex, deviceId, partition }) {
  return `${deviceIndex === undefined ? deviceId : `GPU ${deviceIndex}`}${partition ? ` ${partition}` : ""}`;
}

/** A column of nodes, each with a link to its page. @param {Links} context */
const nodeColumn = (context) => text("node", (row) => nodeLink(context, row));

/** @param {Links} context @param {any} row A node or a device. */
function nodeLink({ state, to }, { nodeId, clusterId }) {
  return link(
    to({ more: { ...state.more, node: nodeId, cluster: clusterId ?? "" } }),
    nodeId,
  );
}

/** @param {any} device */
function heatCell(device) {
  const { utilization, deviceId, memoryUsed = 0, memoryTotal } = device;
  const memory = memoryTotal ? `, memory up to ${bytes(memoryUsed)} of ${bytes(memoryTotal)}` : "";
  return {
    value: utilization,
    title: `${deviceName(device)} (${deviceId}): ${percent(utilization)}${memory}`,
  };
}

/** @param {Links} context @param {{ devices: any[] }} view */
export function heat(context, { devices }) {
  if (devices.length === 0) {
    return empty(
      "No GPU was sampled in this range.",
      "openfinops collect --scrape http://localhost:9400/metrics",
    );
  }
  const byNode = Map.groupBy(devices, ({ clusterId, nodeId }) => JSON.stringify([clusterId, nodeId]));
  const shown = [...byNode.values()].slice(0, MAX_NODES);
  const size = `${count(devices.length)} GPUs of ${count(byNode.size)} nodes`;
  const map = heatmap({
    caption: `Mean utilization in percent of ${size}`,
    columns: Math.max(...shown.map((found) => found.length)),
    rows: shown.map((found) => ({ head: nodeLink(context, found[0]), cells: found.map(heatCell) })),
  });
  return [
    scroll("GPU utilization by node", map),
    byNode.size > MAX_NODES && quiet(`The first ${MAX_NODES} nodes.`),
  ];
}

/** @param {Links} context @param {{ devices: any[], totals: any[] }} view */
export function idle(context, { devices, totals }) {
  if (devices.length === 0) return empty("No GPU was sampled in this range.");
  const idle = devices.filter(({ isIdle }) => isIdle);
  const idleCost = (/** @type {any} */ { costs }) => Number(costs[0]?.idleCost ?? 0);
  const hasIdleCost = (/** @type {any[]} */ costs) => costs.some(({ idleCost }) => Number(idleCost) > 0);
  const costly = devices.filter(({ isIdle, costs }) => isIdle || hasIdleCost(costs))
    .toSorted((a, b) => idleCost(b) - idleCost(a)).slice(0, 20);
  /** @param {string} field */
  const each = (field) => (/** @type {any} */ { costs }) =>
    costs.map((/** @type {any} */ cost) => priced(cost[field], cost.currency));
  return [
    cards(
      card("Idle GPUs", `${count(idle.length)} of ${count(devices.length)}`, "below 5 % on average"),
      totals.map(({ currency, cost, idleCost, costOfIdleDevices }) => [
        card(`Cost of idle GPUs, ${currency}`, amount(costOfIdleDevices, currency), [
          " of ",
          amount(cost, currency),
          " for all GPUs",
        ]),
        card(`Unused time, ${currency}`, amount(idleCost, currency), [
          percent(Number(idleCost) / Number(cost) * 100),
          " of the cost of all GPUs",
        ]),
      ]),
      totals.length === 0 &&
        card("Cost", "unknown", [
          "No costs have the node or GPU as resource. ",
          code("openfinops collect --cost-per-hour"),
        ]),
    ),
    costly.length > 0 && table("GPUs by the cost of their unused time", costly, [
      nodeColumn(context),
      text("GPU", deviceName),
      num("utilization", ({ utilization }) => percent(utilization)),
      wide.text(hidden("bar"), ({ utilization = 0 }) => shareBar(utilization)),
      wide.num("cost", each("cost")),
      num("unused", each("idleCost")),
    ]),
  ];
}

/** @param {Links} context */
export function nodes(context, /** @type {any} */ { nodes = [], at }) {
  if (nodes.length === 0) return empty("No node has reported in the last five minutes.", COLLECT);
  const now = timeOf(at);
  return table("Nodes", nodes, [
    nodeColumn(context),
    wide.text("cluster", ({ clusterId }) => clusterId),
    text("status", ({ status }) => badge(status)),
    num("seen", ({ lastSeen }) => ageOf(timeOf(lastSeen), now)),
    num("CPU", ({ cpuUsage }) => percent(cpuUsage, 0)),
    wide.num("memory", ({ memoryUsage }) => percent(memoryUsage, 0)),
    num("GPU", ({ gpuUsage }) => percent(gpuUsage, 0)),
    wide.num("power", ({ powerConsumption }) => shortOr(powerConsumption, " W")),
    wide.num("an hour", ({ costPerHour }) => shortOr(costPerHour)),
  ]);
}

/** @param {Links} _ */
export function services(_, /** @type {any} */ { services = [], at }) {
  if (services.length === 0) {
    return empty("No service has reported.", "openfinops collect --scrape http://localhost:8000/metrics");
  }
  const now = timeOf(at);
  const needs = (/** @type {string[]} */ names) => names.length > 0 && ` needs ${names.join(", ")}`;
  return table("Services", services, [
    text("service", ({ serviceName }) => serviceName),
    text("status", ({ status, downDependencies }) => [badge(status), needs(downDependencies)]),
    num("seen", ({ lastSeen }) => ageOf(timeOf(lastSeen), now)),
    num("requests", ({ requestRate }) => shortOr(requestRate, "/s")),
    wide.num("response", ({ responseTime }) => shortOr(responseTime, " ms")),
    wide.num("success", ({ successRate }) => percent(successRate)),
    wide.num("restarts", ({ restartCount }) => shortOr(restartCount)),
  ]);
}

/** Charts of a node: measures that share a scale. */
const CHARTS = [
  {
    title: "CPU, memory and GPU",
    unit: " %",
    fields: { cpuUsage: "CPU", memoryUsage: "memory", gpuUsage: "GPU" },
  },
  { title: "Power", unit: " W", fields: { powerConsumption: "power" } },
  { title: "Latency", unit: " ms", fields: { latencyP50: "p50", latencyP95: "p95" } },
];

/** @param {Context} context */
function node(context) {
  const { state, signal, to, rows: ask } = context;
  const { node, cluster } = state.more;
  const bucket = nodeBucket(state.range);
  const params = { ...rangeParams(state), "node-id": node, "cluster-id": cluster, bucket };
  const fields = CHARTS.flatMap(({ fields }) => Object.keys(fields));
  const measure = fields.map((field) => `${field}.avg`).join(",");
  const { node: _node, cluster: _cluster, ...more } = state.more;
  return [
    h("p", {}, link(to({ more }), "← All clusters")),
    h("h2", { class: "title" }, node, cluster && h("small", {}, ` in ${cluster}`)),
    panel(context, { title: "Metrics" }, async () => {
      const rows = await ask("system-metrics/aggregate", { ...params, measure });
      return nodeCharts(context, rows);
    }),
    panel(context, { title: "GPUs" }, async () => {
      const measures = { "group-by": "deviceId", measure: "utilization.avg" };
      const rows = await ask("devices/aggregate", { ...params, ...measures });
      if (rows.length === 0) return empty("No GPU of the node was sampled in this range.");
      const { times, lines } = linesOf(rows, {
        time: (row) => timeOf(row.startTime),
        nameOf: (row) => row.group.deviceId,
        valueOf: (row) => row.fields.utilization.avg,
      });
      const options = {
        zone: state.zone,
        unit: " %",
        title: `GPU utilization of ${node}`,
        height: 220,
        signal,
      };
      return timeSeries({ times, lines, ...options });
    }),
    panel(context, { title: "Cost" }, async () => {
      const rows = await ask("costs/aggregate", { ...rangeParams(state), "resource-id": node });
      if (rows.length === 0) {
        return empty("No cost has this node as its resource.", "openfinops collect --cost-per-hour 2.50");
      }
      return cards(
        rows.map((row) =>
          card(`Total, ${nameOfMoney(row)}`, amount(row.total, row.currency), `${count(row.count)} costs`)
        ),
      );
    }),
  ];
}

/** Series of the metrics of a node. @param {Context} context @param {any[]} rows */
function nodeCharts({ state, signal }, rows) {
  if (rows.length === 0) return empty("The node has not reported in this range.");
  const times = rows.map((row) => timeOf(row.startTime));
  return CHARTS.map(({ title, unit, fields }) => {
    const lines = Object.entries(fields).map(([field, name], i) => ({
      name,
      color: i,
      values: rows.map((row) => row.fields[field]?.avg ?? null),
    })).filter(({ values }) => values.some((value) => value !== null));
    if (lines.length === 0) return;
    const options = { zone: state.zone, unit, title: `${title} of ${state.more.node}`, signal };
    return [h("h3", {}, title), timeSeries({ times, lines, ...options })];
  });
}

/** @param {string} range */
function nodeBucket(range) {
  const coarse = bucketOfRange(range);
  return coarse === "1h" ? "5m" : coarse === "1d" ? "1h" : "1d";
}
