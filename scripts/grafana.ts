/**
 * Generates `deploy/grafana/dashboards/` from `grafana_dashboards.ts` with the Foundation SDK of Grafana.
 * `deno task grafana` runs it.
 *
 * @module
 */
import { PanelBuilder as BarGaugeBuilder } from "@grafana/grafana-foundation-sdk/bargauge";
import type { Builder, Dataquery } from "@grafana/grafana-foundation-sdk/cog";
import {
  CustomVariableBuilder,
  type Dashboard,
  DashboardBuilder,
  DatasourceVariableBuilder,
  type Panel,
  QueryVariableBuilder,
  RowBuilder,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { StackingMode } from "@grafana/grafana-foundation-sdk/common";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as StatusHistoryBuilder } from "@grafana/grafana-foundation-sdk/statushistory";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeSeriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";
import { DASHBOARDS, type DashboardSpec, type PanelSpec, type VariableSpec } from "./grafana_dashboards.ts";

const FOLDER = new URL("../deploy/grafana/dashboards/", import.meta.url);
/** Data source that the user chooses in each dashboard. */
const DATASOURCE = { type: "grafana-postgresql-datasource", uid: "${datasource}" };

const BUILDERS = {
  stat: StatBuilder,
  timeseries: TimeSeriesBuilder,
  table: TableBuilder,
  bargauge: BarGaugeBuilder,
  statushistory: StatusHistoryBuilder,
};

/** Types of panels whose query returns series. */
const SERIES: ReadonlySet<string> = new Set(["timeseries", "statushistory"]);

function queryOf({ type, sql }: PanelSpec): Builder<Dataquery> {
  const format = SERIES.has(type) ? "time_series" : "table";
  const query = { refId: "A", format, rawQuery: true, rawSql: sql, editorMode: "code" };
  return { build: () => ({ ...query, datasource: DATASOURCE }) as unknown as Dataquery };
}

function panelOf(spec: PanelSpec): Builder<Panel> {
  const { title, type, width, height = type === "stat" ? 4 : 8, unit, thresholds, description, isStacked } =
    spec;
  const panel = new BUILDERS[type]().title(title).datasource(DATASOURCE).withTarget(queryOf(spec))
    .span(width).height(height);
  if (unit !== undefined) panel.unit(unit);
  if (unit === "percent") panel.min(0).max(100);
  if (type !== "table") panel.decimals(unit === undefined && type !== "stat" ? 2 : 1);
  if (description !== undefined) panel.description(description);
  if (thresholds !== undefined) {
    const [warning, critical] = thresholds;
    panel.thresholds(
      new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps([
        { value: null, color: "green" },
        { value: warning, color: "yellow" },
        { value: critical, color: "red" },
      ]),
    );
  }
  if (panel instanceof TimeSeriesBuilder) {
    panel.fillOpacity(isStacked ? 40 : 0).stacking({
      build: () => ({ mode: isStacked ? StackingMode.Normal : StackingMode.None, group: "A" }),
    });
  }
  return panel;
}

function variableOf({ name, label, sql, values, isMulti = false }: VariableSpec) {
  if (values) return new CustomVariableBuilder(name).label(label).values(values.join(","));
  return new QueryVariableBuilder(name).label(label).datasource(DATASOURCE).query(sql!)
    .refresh(VariableRefresh.OnTimeRangeChanged).multi(isMulti).includeAll(isMulti)
    .current({ selected: true, text: isMulti ? ["All"] : "", value: isMulti ? ["$__all"] : "" });
}

/** The model of a dashboard, as Grafana imports it. */
export function dashboardOf({ uid, title, description, from, variables, rows }: DashboardSpec): Dashboard {
  const dashboard = new DashboardBuilder(title).uid(uid).description(description).tags(["openfinops"])
    .timezone("utc").time({ from, to: "now" }).refresh("1m")
    .withVariable(new DatasourceVariableBuilder("datasource").label("Database").type(DATASOURCE.type));
  for (const variable of variables) dashboard.withVariable(variableOf(variable));
  for (const [name, panels] of Object.entries(rows)) {
    dashboard.withRow(new RowBuilder(name));
    for (const panel of panels) dashboard.withPanel(panelOf(panel));
  }
  return dashboard.build();
}

/** Files of the dashboards, by name. */
export function dashboardFiles(): Map<string, string> {
  return new Map(DASHBOARDS.map((spec) => [
    `${spec.uid}.json`,
    `${JSON.stringify(dashboardOf(spec), undefined, 2)}\n`,
  ]));
}

if (import.meta.main) {
  Deno.mkdirSync(FOLDER, { recursive: true });
  for (const [name, text] of dashboardFiles()) Deno.writeTextFileSync(new URL(name, FOLDER), text);
}
