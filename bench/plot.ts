import { type GrowthResult, GROWTHS } from "./growth.ts";

/** Draws time against records, both in powers of ten: what grows evenly is a straight line. */
export async function plotGrowth(results: readonly GrowthResult[]): Promise<string> {
  const { init } = await import("echarts");
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 800, height: 480 });
  const axis = { type: "log", nameLocation: "middle", nameGap: 40 } as const;
  chart.setOption({
    animation: false,
    backgroundColor: "#fff", // pages may be dark
    title: { text: "Time to take SystemMetrics in, until they are committed", left: "center" },
    legend: { bottom: 0 },
    grid: { left: 80, right: 40, top: 50, bottom: 90 },
    xAxis: {
      ...axis,
      name: "records",
      min: "dataMin",
      axisLabel: { formatter: (value: number) => value.toLocaleString("en") },
    },
    yAxis: { ...axis, name: "seconds" },
    series: results.flatMap(({ name, points }) =>
      points
        ? [{
          type: "line",
          name: GROWTHS.find((growth) => growth.name === name)?.title,
          data: points.map(({ records, seconds }) => [records, seconds]),
        }]
        : []
    ),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
