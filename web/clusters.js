// @ts-check
/**
 * Clusters: nodes and services with health and age, use of GPUs, idle ones and their cost, and the page of a node.
 *
 * @module
 */
import { ask, rowsOf } from "./api.js";
import { heatmap, shareBar } from "./charts.js";
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
  link,
  num,
  panel,
  quiet,
  select,
  table,
  text,
} from "./ui.js";

/** @typedef {import("./main.js").Context} Context */

/** Nodes of a heatmap that are shown at once. */
const MAX_NODES = 200;

/** @type {import("./main.js").Page} */
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
  const { state, signal } = context;
  const params = { "time-zone": state.zone, ...(state.more.at ? { at: state.more.at } : {}) };
  /** @type {Promise<any> | undefined} */
  let health;
  /** @type {Promise<any> | undefined} */
  let devices;
  context.refreshers.push(() => health = devices = undefined);
  const readHealth = () => health ??= ask("views/clusters", params, { signal });
  const readDevices = () =>
    devices ??= ask("views/devices", { ...rangeParams(state), basis: state.more.basis }, { signal });
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
  const { state, signal, go } = context;
  if (clusters.length === 0) {
    const { datasets } = await ask("views/data", {}, { signal });
    const list = Array.isArray(datasets)
      ? datasets
      : Object.entries(datasets).map(([dataset, rest]) => ({ dataset, .../** @type {object} */ (rest) }));
    const newest = list.find((/** @type {any} */ { dataset }) => dataset === "system_metrics")?.newest;
    if (newest === undefined) {
      return empty("No metrics yet.", "openfinops collect --duration 10s --cost-per-hour 2.50");
    }
    return [
      empty(
        `No node has reported in the last five minutes. The newest metrics are from ${
          dateTime(newest, state.zone)
        }.`,
      ),
      h(
        "p",
        {},
        button(
          "Show the health at that time",
          () => go({ more: { ...state.more, at: new Date(timeOf(newest)).toISOString() } }),
        ),
      ),
    ];
  }
  return [
    cards(clusters.map(clusterCard)),
    quiet(
      `At ${dateTime(at, state.zone)} (${state.zone}). `,
      state.more.at && link(context.to({ more: { ...state.more, at: "" } }), "Show now"),
    ),
  ];
}

/** @param {any} device */
function deviceName({ deviceIndex, deviceId, partition }) {
  return `${deviceIndex === undefined ? deviceId : `GPU ${deviceIndex}`}${partition ? ` ${partition}` : ""}`;
}

/** @param {import("./main.js").Links} context @param {string} nodeId @param {string} [clusterId] */
function nodeLink(context, nodeId, clusterId) {
  return link(
    context.to({
      more: { ...context.state.more, node: nodeId, ...(clusterId ? { cluster: clusterId } : {}) },
    }),
    nodeId,
  );
}

/** @param {import("./main.js").Links} context */
export function heat(context, /** @type {any} */ { devices }) {
  if (devices.length === 0) {
    return empty(
      "No GPU was sampled in this range.",
      "openfinops collect --scrape http://localhost:9400/metrics",
    );
  }
  const byNode = Map.groupBy(
    devices,
    (/** @type {any} */ { clusterId, nodeId }) => JSON.stringify([clusterId, nodeId]),
  );
  const shown = [...byNode].slice(0, MAX_NODES);
  return [
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "GPU utilization by node" },
      heatmap({
        caption: `Mean utilization in percent of ${count(devices.length)} GPUs of ${
          count(byNode.size)
        } nodes`,
        columns: Math.max(...shown.map(([, found]) => found.length)),
        rows: shown.map(([, found]) => ({
          head: nodeLink(context, found[0].nodeId, found[0].clusterId),
          cells: found.map((/** @type {any} */ device) => ({
            value: device.utilization,
            title: `${deviceName(device)} (${device.deviceId}): ${percent(device.utilization)}${
              device.memoryTotal
                ? `, memory up to ${bytes(device.memoryUsed ?? 0)} of ${bytes(device.memoryTotal)}`
                : ""
            }`,
          })),
        })),
      }),
    ),
    byNode.size > MAX_NODES && quiet(`The first ${MAX_NODES} nodes.`),
  ];
}

/** @param {import("./main.js").Links} context */
export function idle(context, /** @type {any} */ { devices, totals }) {
  if (devices.length === 0) return empty("No GPU was sampled in this range.");
  const idle = devices.filter((/** @type {any} */ { isIdle }) => isIdle);
  const costly = devices.filter((/** @type {any} */ { isIdle, costs }) =>
    isIdle || costs.some((/** @type {any} */ { idleCost }) => Number(idleCost) > 0)
  )
    .toSorted((/** @type {any} */ a, /** @type {any} */ b) =>
      Number(b.costs[0]?.idleCost ?? 0) - Number(a.costs[0]?.idleCost ?? 0)
    ).slice(0, 20);
  return [
    cards(
      card("Idle GPUs", `${count(idle.length)} of ${count(devices.length)}`, "below 5 % on average"),
      totals.map((/** @type {any} */ { currency, cost, idleCost, costOfIdleDevices }) => [
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
      text("node", ({ nodeId, clusterId }) => nodeLink(context, nodeId, clusterId)),
      text("GPU", deviceName),
      num("utilization", ({ utilization }) => percent(utilization)),
      text("", ({ utilization = 0 }) => shareBar(utilization), "wide"),
      num(
        "cost",
        ({ costs }) =>
          costs.map((/** @type {any} */ { cost, currency }) => [amount(cost, currency), ` ${currency} `]),
        "wide",
      ),
      num("unused", ({ costs }) =>
        costs.map((
          /** @type {any} */ { idleCost, currency },
        ) => [amount(idleCost, currency), ` ${currency} `])),
    ]),
  ];
}

/** @param {import("./main.js").Links} context */
export function nodes(context, /** @type {any} */ { nodes = [], at }) {
  if (nodes.length === 0) return empty("No nodes.", "openfinops alerts clusters");
  const now = timeOf(at);
  return table("Nodes", nodes, [
    text("node", ({ nodeId, clusterId }) => nodeLink(context, nodeId, clusterId)),
    text("cluster", ({ clusterId }) => clusterId, "wide"),
    text("status", ({ status }) => badge(status)),
    num("seen", ({ lastSeen }) => ageOf(timeOf(lastSeen), now)),
    num("CPU", ({ cpuUsage }) => percent(cpuUsage, 0)),
    num("memory", ({ memoryUsage }) => percent(memoryUsage, 0), "wide"),
    num("GPU", ({ gpuUsage }) => percent(gpuUsage, 0)),
    num(
      "power",
      ({ powerConsumption }) => powerConsumption === undefined ? "–" : `${short(powerConsumption)} W`,
      "wide",
    ),
    num("an hour", ({ costPerHour }) => costPerHour === undefined ? "–" : short(costPerHour), "wide"),
  ]);
}

/** @param {import("./main.js").Links} _ */
export function services(_, /** @type {any} */ { services = [], at }) {
  if (services.length === 0) {
    return empty("No service has reported.", "openfinops collect --scrape http://localhost:8000/metrics");
  }
  const now = timeOf(at);
  const or = (/** @type {number | undefined} */ value, unit = "") =>
    value === undefined ? "–" : `${short(value)}${unit}`;
  return table("Services", services, [
    text("service", ({ serviceName }) => serviceName),
    text("status", (
      { status, downDependencies },
    ) => [badge(status), downDependencies.length > 0 && ` needs ${downDependencies.join(", ")}`]),
    num("seen", ({ lastSeen }) => ageOf(timeOf(lastSeen), now)),
    num("requests", ({ requestRate }) => or(requestRate, "/s")),
    num("response", ({ responseTime }) => or(responseTime, " ms"), "wide"),
    num("success", ({ successRate }) => percent(successRate), "wide"),
    num("restarts", ({ restartCount }) => or(restartCount), "wide"),
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
  const { state, signal, to } = context;
  const { node, cluster } = state.more;
  const bucket = nodeBucket(state.range);
  const params = { ...rangeParams(state), "node-id": node, "cluster-id": cluster, bucket };
  const fields = CHARTS.flatMap(({ fields }) => Object.keys(fields));
  const { node: _node, cluster: _cluster, ...more } = state.more;
  return [
    h("p", {}, link(to({ more }), "← All clusters")),
    h("h2", { class: "title" }, node, cluster && h("small", {}, ` in ${cluster}`)),
    panel(context, { title: "Metrics" }, async () => {
      const rows = rowsOf(
        await ask("system-metrics/aggregate", {
          ...params,
          measure: fields.map((field) => `${field}.avg`).join(","),
        }, { signal }),
      );
      if (rows.length === 0) return empty("The node has not reported in this range.");
      const times = rows.map((row) => timeOf(row.startTime));
      return CHARTS.map(({ title, unit, fields }) => {
        const lines = Object.entries(fields).map(([field, name], i) => ({
          name,
          color: i,
          values: rows.map((row) => row.fields[field]?.avg ?? null),
        }))
          .filter(({ values }) => values.some((value) => value !== null));
        return lines.length > 0 &&
          [
            h("h3", {}, title),
            timeSeries({ times, lines, zone: state.zone, unit, title: `${title} of ${node}`, signal }),
          ];
      });
    }),
    panel(context, { title: "GPUs" }, async () => {
      const rows = rowsOf(
        await ask("devices/aggregate", { ...params, "group-by": "deviceId", measure: "utilization.avg" }, {
          signal,
        }),
      );
      if (rows.length === 0) return empty("No GPU of the node was sampled in this range.");
      const { times, lines } = linesOf(rows, {
        time: (row) => timeOf(row.startTime),
        nameOf: (row) => row.group.deviceId,
        valueOf: (row) => row.fields.utilization.avg,
      });
      return timeSeries({
        times,
        lines,
        zone: state.zone,
        unit: " %",
        title: `GPU utilization of ${node}`,
        height: 220,
        signal,
      });
    }),
    panel(context, { title: "Cost" }, async () => {
      const rows = rowsOf(
        await ask("costs/aggregate", { ...rangeParams(state), "resource-id": node }, { signal }),
      );
      if (rows.length === 0) {
        return empty("No cost has this node as its resource.", "openfinops collect --cost-per-hour 2.50");
      }
      return cards(rows.map((row) =>
        card(
          `Total, ${row.currency}${row.basis ? ` ${row.basis}` : ""}`,
          amount(row.total, row.currency),
          `${count(row.count)} costs`,
        )
      ));
    }),
  ];
}

/** @param {string} range */
function nodeBucket(range) {
  const coarse = bucketOfRange(range);
  return coarse === "1h" ? "5m" : coarse === "1d" ? "1h" : "1d";
}
