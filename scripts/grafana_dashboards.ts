/**
 * Dashboards of Grafana as data: variables, rows and panels, each with its SQL for PostgreSQL and TimescaleDB.
 *
 * @module
 */

/** Panel with one query. `width` is of the 24 columns of Grafana. */
export interface PanelSpec {
  readonly title: string;
  readonly type: "stat" | "timeseries" | "table" | "bargauge" | "statushistory";
  readonly width: number;
  readonly height?: number;
  /** Unit by its id in Grafana; none for money, whose currency is in the title of the row. */
  readonly unit?: string;
  /** Limits of the colors yellow and red, of panels that have colors. */
  readonly thresholds?: readonly [warning: number, critical: number];
  /** True to stack the series. */
  readonly isStacked?: boolean;
  readonly description?: string;
  readonly sql: string;
}

/** Variable of a dashboard: the values that a statement returns, or a list. */
export interface VariableSpec {
  readonly name: string;
  readonly label: string;
  readonly sql?: string;
  readonly values?: readonly string[];
  readonly isMulti?: boolean;
}

/** Dashboard. */
export interface DashboardSpec {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly from: string;
  readonly variables: readonly VariableSpec[];
  readonly rows: Readonly<Record<string, readonly PanelSpec[]>>;
}

const CURRENCY: VariableSpec = {
  name: "currency",
  label: "Currency",
  sql: "SELECT DISTINCT currency FROM cost_entries WHERE $__timeFilter(timestamp) ORDER BY 1",
};
const BASIS: VariableSpec = { name: "basis", label: "Basis", values: ["billed", "estimated"] };
const CLUSTER: VariableSpec = {
  name: "cluster",
  label: "Cluster",
  sql: "SELECT DISTINCT cluster_id FROM system_metrics WHERE $__timeFilter(timestamp) ORDER BY 1",
  isMulti: true,
};
const NODE: VariableSpec = {
  name: "node",
  label: "Node",
  sql:
    "SELECT DISTINCT node_id FROM device_metrics WHERE $__timeFilter(timestamp) AND cluster_id IN (${cluster:sqlstring}) " +
    "ORDER BY 1",
  isMulti: true,
};

/** Costs of the range, in one currency and of one basis: neither is ever added to another. */
const COSTS = "FROM cost_entries WHERE $__timeFilter(timestamp) AND currency = ${currency:sqlstring} " +
  "AND coalesce(basis, 'billed') = ${basis:sqlstring}";
const METRICS = "FROM system_metrics WHERE $__timeFilter(timestamp) AND cluster_id IN (${cluster:sqlstring})";
const SERVICES = "FROM service_metrics WHERE $__timeFilter(timestamp)";
const DEVICES =
  "FROM device_metrics WHERE $__timeFilter(timestamp) AND cluster_id IN (${cluster:sqlstring}) " +
  "AND node_id IN (${node:sqlstring})";
const USAGE = "FROM usage_records WHERE $__timeFilter(timestamp)";
const TIME = "$__timeGroupAlias(timestamp, $__interval)";
const DAY = "$__timeGroupAlias(timestamp, '1d')";

/** A series for each text, over intervals. */
const seriesOf = (metric: string, value: string, from: string, time = TIME) =>
  `SELECT ${time}, ${metric} AS metric, ${value} AS value ${from} GROUP BY 1, 2 ORDER BY 1, 2`;
/** The costliest of a kind, with their share. */
const rankingOf = (name: string, title: string) =>
  `SELECT ${name} AS "${title}", sum(amount) AS "Cost", ` +
  `100 * sum(amount) / nullif(sum(sum(amount)) OVER (), 0) AS "Share in %", count(*) AS "Charges" ` +
  `${COSTS} GROUP BY 1 ORDER BY 2 DESC LIMIT 20`;

const DEVICE_NAME = "node_id || ' ' || coalesce(device_index::text, left(device_id, 12))";

export const DASHBOARDS: readonly DashboardSpec[] = [
  {
    uid: "openfinops-costs",
    title: "OpenFinOps: Costs",
    description: "Costs by category, service, resource and tag. Days are of UTC.",
    from: "now-30d",
    variables: [CURRENCY, BASIS, {
      name: "tag",
      label: "Tag",
      sql:
        "SELECT DISTINCT jsonb_object_keys(tags) FROM (SELECT tags FROM cost_entries WHERE $__timeFilter(timestamp) " +
        "AND tags IS NOT NULL LIMIT 10000) AS newest ORDER BY 1",
    }],
    rows: {
      "Costs in $currency ($basis)": [
        { title: "Total", type: "stat", width: 6, sql: `SELECT sum(amount) AS "Total" ${COSTS}` },
        {
          title: "Same time before",
          type: "stat",
          width: 6,
          description: "Total of the range of equal length before this one.",
          sql:
            `SELECT coalesce(sum(amount), 0) AS "Before" FROM cost_entries WHERE timestamp < $__timeFrom()::timestamptz ` +
            "AND timestamp >= $__timeFrom()::timestamptz - ($__timeTo()::timestamptz - $__timeFrom()::timestamptz) " +
            "AND currency = ${currency:sqlstring} AND coalesce(basis, 'billed') = ${basis:sqlstring}",
        },
        {
          title: "Without $tag",
          type: "stat",
          width: 6,
          unit: "percent",
          thresholds: [5, 20],
          description: "Share of the total whose charges lack the tag.",
          sql:
            "SELECT coalesce(100 * sum(amount) FILTER (WHERE tags->>${tag:sqlstring} IS NULL) / nullif(sum(amount), 0), 0) " +
            `AS "Untagged" ${COSTS}`,
        },
        { title: "Charges", type: "stat", width: 6, sql: `SELECT count(*) AS "Charges" ${COSTS}` },
        {
          title: "By day and category",
          type: "timeseries",
          width: 24,
          height: 9,
          isStacked: true,
          sql: seriesOf("category", "sum(amount)", COSTS, DAY),
        },
      ],
      "Where it goes": [
        {
          title: "By service",
          type: "table",
          width: 12,
          sql: rankingOf("coalesce(service_name, category)", "Service"),
        },
        { title: "By resource", type: "table", width: 12, sql: rankingOf("resource_id", "Resource") },
        {
          title: "By $tag",
          type: "table",
          width: 12,
          sql: rankingOf("coalesce(tags->>${tag:sqlstring}, '(none)')", "Value"),
        },
        {
          title: "By region",
          type: "bargauge",
          width: 12,
          sql: `SELECT coalesce(region, '(none)') AS metric, sum(amount) AS value ${COSTS} ` +
            "GROUP BY 1 ORDER BY 2 DESC LIMIT 12",
        },
      ],
      "Data": [{
        title: "Newest charge of each source",
        type: "table",
        width: 24,
        sql:
          `SELECT coalesce(source, '(none)') AS "Source", currency AS "Currency", coalesce(basis, 'billed') AS "Basis", ` +
          `max(timestamp) AS "Newest", count(*) AS "Charges" FROM cost_entries WHERE $__timeFilter(timestamp) ` +
          "GROUP BY 1, 2, 3 ORDER BY 4",
      }],
    },
  },
  {
    uid: "openfinops-clusters",
    title: "OpenFinOps: Clusters",
    description: "Nodes and services: load, age of data, errors and cost per hour.",
    from: "now-6h",
    variables: [CLUSTER],
    rows: {
      "Nodes": [
        {
          title: "Nodes that report",
          type: "stat",
          width: 6,
          sql: `SELECT count(DISTINCT (cluster_id, node_id)) AS "Nodes" ${METRICS}`,
        },
        {
          title: "Average CPU",
          type: "stat",
          width: 6,
          unit: "percent",
          thresholds: [80, 95],
          sql: `SELECT avg(cpu_usage) AS "CPU" ${METRICS}`,
        },
        {
          title: "Average GPU",
          type: "stat",
          width: 6,
          unit: "percent",
          sql: `SELECT avg(gpu_usage) AS "GPU" ${METRICS}`,
        },
        {
          title: "Cost per hour",
          type: "stat",
          width: 6,
          description: "Sum of the newest cost per hour of each node.",
          sql:
            `SELECT sum(cost) AS "Cost per hour" FROM (SELECT DISTINCT ON (cluster_id, node_id) cost_per_hour AS cost ` +
            `${METRICS} ORDER BY cluster_id, node_id, timestamp DESC) AS newest`,
        },
        {
          title: "CPU by cluster",
          type: "timeseries",
          width: 12,
          unit: "percent",
          sql: seriesOf("cluster_id", "avg(cpu_usage)", METRICS),
        },
        {
          title: "Memory by cluster",
          type: "timeseries",
          width: 12,
          unit: "percent",
          sql: seriesOf("cluster_id", "avg(memory_usage)", METRICS),
        },
        {
          title: "Newest data of each node",
          type: "table",
          width: 24,
          height: 9,
          sql:
            'SELECT DISTINCT ON (cluster_id, node_id) cluster_id AS "Cluster", node_id AS "Node", timestamp AS "Newest", ' +
            'cpu_usage AS "CPU %", memory_usage AS "Memory %", gpu_usage AS "GPU %", power_consumption AS "Power W", ' +
            `cost_per_hour AS "Cost per hour" ${METRICS} ORDER BY cluster_id, node_id, timestamp DESC`,
        },
      ],
      "Services": [
        {
          title: "Response time",
          type: "timeseries",
          width: 12,
          unit: "ms",
          sql: seriesOf("service_name", "avg(response_time)", SERVICES),
        },
        {
          title: "Success rate",
          type: "timeseries",
          width: 12,
          unit: "percent",
          sql: seriesOf("service_name", "avg(success_rate)", SERVICES),
        },
        {
          title: "Newest data of each service",
          type: "table",
          width: 24,
          sql:
            'SELECT DISTINCT ON (service_name) service_name AS "Service", status AS "Status", timestamp AS "Newest", ' +
            'request_rate AS "Requests/s", response_time AS "Response ms", success_rate AS "Success %", ' +
            `restart_count AS "Restarts" ${SERVICES} ORDER BY service_name, timestamp DESC`,
        },
      ],
    },
  },
  {
    uid: "openfinops-gpus",
    title: "OpenFinOps: GPUs",
    description: "Utilization, memory, temperature, power and faults of each accelerator.",
    from: "now-6h",
    variables: [CLUSTER, NODE],
    rows: {
      "Accelerators": [
        {
          title: "Devices",
          type: "stat",
          width: 6,
          sql: `SELECT count(DISTINCT device_id) AS "Devices" ${DEVICES}`,
        },
        {
          title: "Average utilization",
          type: "stat",
          width: 6,
          unit: "percent",
          sql: `SELECT avg(utilization) AS "Utilization" ${DEVICES}`,
        },
        {
          title: "Idle devices",
          type: "stat",
          width: 6,
          thresholds: [1, 4],
          description: "Devices whose average utilization is below 5 %.",
          sql:
            `SELECT count(*) AS "Idle" FROM (SELECT 1 ${DEVICES} GROUP BY device_id HAVING avg(utilization) < 5) AS idle`,
        },
        {
          title: "Faults (XID)",
          type: "stat",
          width: 6,
          thresholds: [1, 1],
          sql: `SELECT count(*) AS "Faults" ${DEVICES} AND error_code > 0`,
        },
        {
          title: "Utilization of each device",
          type: "statushistory",
          width: 24,
          height: 10,
          unit: "percent",
          sql: seriesOf(DEVICE_NAME, "avg(utilization)", DEVICES),
        },
        {
          title: "Memory in use",
          type: "timeseries",
          width: 12,
          unit: "percent",
          sql: seriesOf(DEVICE_NAME, "avg(100.0 * memory_used / nullif(memory_total, 0))", DEVICES),
        },
        {
          title: "Temperature",
          type: "timeseries",
          width: 12,
          unit: "celsius",
          sql: seriesOf(DEVICE_NAME, "max(temperature)", DEVICES),
        },
        {
          title: "Power",
          type: "timeseries",
          width: 12,
          unit: "watt",
          isStacked: true,
          sql: seriesOf(DEVICE_NAME, "avg(power_consumption)", DEVICES),
        },
        {
          title: "Least used devices",
          type: "table",
          width: 12,
          sql:
            'SELECT node_id AS "Node", device_id AS "Device", max(model) AS "Model", avg(utilization) AS "Utilization %", ' +
            `max(timestamp) AS "Newest" ${DEVICES} GROUP BY 1, 2 ORDER BY 4 NULLS FIRST LIMIT 20`,
        },
      ],
    },
  },
  {
    uid: "openfinops-models",
    title: "OpenFinOps: Models",
    description: "Tokens, requests, latency and cost of language models.",
    from: "now-7d",
    variables: [CURRENCY],
    rows: {
      "Usage": [
        {
          title: "Requests",
          type: "stat",
          width: 6,
          sql: `SELECT sum(coalesce(requests, 1)) AS "Requests" ${USAGE}`,
        },
        {
          title: "Input tokens",
          type: "stat",
          width: 6,
          unit: "short",
          sql: `SELECT sum(input_tokens) AS "Input" ${USAGE}`,
        },
        {
          title: "Output tokens",
          type: "stat",
          width: 6,
          unit: "short",
          sql: `SELECT sum(output_tokens) AS "Output" ${USAGE}`,
        },
        {
          title: "Cost",
          type: "stat",
          width: 6,
          description: "Estimated costs of usage, from prices, in the currency of the dashboard.",
          sql: 'SELECT coalesce(sum(amount), 0) AS "Cost" FROM cost_entries WHERE $__timeFilter(timestamp) ' +
            "AND source = 'prices' AND currency = ${currency:sqlstring}",
        },
        {
          title: "Tokens by model",
          type: "timeseries",
          width: 12,
          isStacked: true,
          sql: seriesOf(
            "coalesce(model, '(unknown)')",
            "sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))",
            USAGE,
          ),
        },
        {
          title: "Latency by model (95th percentile)",
          type: "timeseries",
          width: 12,
          unit: "ms",
          sql: seriesOf(
            "coalesce(model, '(unknown)')",
            "percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms)",
            USAGE,
          ),
        },
        {
          title: "Models",
          type: "table",
          width: 24,
          height: 10,
          sql:
            `SELECT coalesce(provider, '(unknown)') AS "Provider", coalesce(model, '(unknown)') AS "Model", ` +
            `sum(coalesce(requests, 1)) AS "Requests", sum(input_tokens) AS "Input tokens", ` +
            `sum(output_tokens) AS "Output tokens", avg(duration_ms) AS "Latency ms", ` +
            `avg(time_to_first_token_ms) AS "First token ms" ${USAGE} GROUP BY 1, 2 ORDER BY 4 DESC NULLS LAST LIMIT 50`,
        },
      ],
    },
  },
];
