// @ts-check
/** Charts as trees of SVG, for the page and for reports. Colors come from classes; every value comes from the caller. */
import { short } from "./format.js";
import { h } from "./tree.js";

/** Number of colors of series; the last is that of all others. */
export const COLORS = 9;

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {number} color Number of the color, from 0.
 * @property {(number | null)[]} values One for each label.
 * @property {boolean} [isDashed]
 * @property {boolean} [isFilled]
 */

/**
 * @typedef {object} ChartOptions
 * @property {string[]} labels Labels of the x axis.
 * @property {Series[]} series
 * @property {number} [width]
 * @property {number} [height]
 * @property {string} title Description for people who do not see the chart.
 * @property {{ value: number, label: string, isMinor?: boolean }[]} [lines] Horizontal lines, such as a limit.
 * @property {{ index: number, label: string }[]} [marks] Labels that stand out, such as anomalies.
 */

/** Space around the plot. */
const [LEFT, RIGHT, TOP, BOTTOM] = [48, 8, 10, 22];

/** Round numbers that divide an axis. @param {number} low @param {number} high */
export function ticks(low, high, wanted = 4) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? rough;
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: Math.max(1, last - first) + 1 }, (_, i) => (first + i) * step);
}

/** Geometry of a chart, for the pointer. @param {{ width: number, count: number }} chart */
export function plotOf({ width, count }) {
  const inner = width - LEFT - RIGHT;
  return { left: LEFT, top: TOP, inner, step: inner / Math.max(1, count) };
}

/** Stacked bars: one bar for each label. @param {ChartOptions} options */
export function stackedBars(options) {
  const { labels, series } = options;
  const sums = labels.map((_, i) => {
    const values = series.map(({ values }) => values[i] ?? 0);
    return { high: add(values.filter((value) => value > 0)), low: add(values.filter((value) => value < 0)) };
  });
  const frame = frameOf(options, {
    low: Math.min(0, ...sums.map(({ low }) => low)),
    high: Math.max(0, ...sums.map(({ high }) => high)),
  });
  const { step, x, y } = frame;
  const gap = step > 6 ? Math.min(step * 0.25, 6) : step > 3 ? 1 : 0;
  const tops = labels.map(() => 0);
  const bottoms = labels.map(() => 0);
  const bars = series.map(({ name, color, values }) => {
    const path = values.map((value, i) => {
      if (!value) return "";
      const base = value > 0 ? tops : bottoms;
      const from = base[i];
      base[i] += value;
      const [y1, y2] = [y(from), y(base[i])];
      return `M${n(x(i) - step / 2 + gap / 2)} ${n(y1)}V${n(y2)}h${n(Math.max(0.5, step - gap))}V${n(y1)}z`;
    }).join("");
    return h("path", { class: `s${color % COLORS}`, d: path }, h("title", {}, name));
  });
  return frame.draw(bars);
}

/** Lines: gaps where a value is null. @param {ChartOptions} options */
export function lines(options) {
  const { series, lines = [] } = options;
  const values = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const frame = frameOf(options, {
    low: Math.min(0, ...values),
    high: Math.max(0, ...values, ...lines.map(({ value }) => value)),
  });
  const { x, y } = frame;
  const paths = series.map(({ name, color, values, isDashed, isFilled }) => {
    let isOpen = false;
    const d = values.map((value, i) => {
      if (value === null || value === undefined) {
        isOpen = false;
        return "";
      }
      const isAlone = !isOpen && !isDashed && (values[i + 1] ?? null) === null;
      const part = `${isOpen ? "L" : "M"}${n(x(i))} ${n(y(value))}`;
      isOpen = true;
      return isAlone ? `${part}m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0` : part;
    }).join("");
    const first = values.findIndex((value) => value !== null);
    const last = values.findLastIndex((value) => value !== null);
    const area = isFilled && first >= 0 && `${d}L${n(x(last))} ${n(y(0))}L${n(x(first))} ${n(y(0))}z`;
    return [
      area && h("path", { class: `area s${color % COLORS}`, d: area }),
      h("path", { class: `line s${color % COLORS}${isDashed ? " dashed" : ""}`, d }, h("title", {}, name)),
    ];
  });
  return frame.draw(paths);
}

/**
 * Axes, grid, lines and marks around a plot.
 * @param {ChartOptions} options
 * @param {{ low: number, high: number }} range
 */
function frameOf({ labels, width = 760, height = 240, title, lines = [], marks = [] }, { low, high }) {
  const marked = ticks(low, high);
  const [bottom, top] = [marked[0], marked[marked.length - 1]];
  const { inner, step } = plotOf({ width, count: labels.length });
  const x = (/** @type {number} */ i) => LEFT + (i + 0.5) * step;
  const y = (/** @type {number} */ value) =>
    TOP + (top - value) / (top - bottom || 1) * (height - TOP - BOTTOM);
  const every = Math.max(1, Math.ceil(labels.length / Math.max(1, Math.floor(inner / 64))));
  const rule = (/** @type {string} */ kind, /** @type {number} */ value) =>
    h("line", { class: kind, x1: LEFT, x2: width - RIGHT, y1: n(y(value)), y2: n(y(value)) });
  const name = (/** @type {string} */ text, /** @type {number} */ x, /** @type {number} */ y, at = "end") =>
    h("text", { class: "tick", x: n(x), y: n(y), "text-anchor": at }, text);
  const grid = marked.map((value) => [
    rule(value === 0 ? "axis" : "grid", value),
    name(short(value), LEFT - 6, y(value) + 3.5),
  ]);
  const names = labels.map((label, i) => i % every === 0 && name(label, x(i), height - 6, "middle"));
  const taken = /** @type {number[]} */ ([]);
  const across = lines.toReversed().map(({ value, label, isMinor }) => {
    const at = Math.max(9, y(value) - 4);
    const isFree = taken.every((other) => Math.abs(other - at) >= 11);
    if (isFree) taken.push(at);
    return [rule(isMinor ? "limit minor" : "limit", value), isFree && name(label, width - RIGHT - 2, at)];
  });
  const flags = marks.map(({ index, label }) =>
    h("g", { class: "mark" }, [
      h("line", { x1: n(x(index)), x2: n(x(index)), y1: TOP, y2: height - BOTTOM }),
      h("circle", { cx: n(x(index)), cy: TOP, r: 4 }, h("title", {}, label)),
    ])
  );
  const area = { x: 0, y: TOP, width: n(step), height: height - TOP - BOTTOM };
  const hover = h("rect", { class: "hover", ...area, visibility: "hidden" });
  const size = { viewBox: `0 0 ${width} ${height}`, width, height };
  const attributes = { class: "chart", ...size, role: "img", "aria-label": title };
  const draw = (/** @type {any} */ plot) => h("svg", attributes, grid, hover, plot, names, across, flags);
  return { step, x, y, draw };
}

/**
 * A bar of a share, for tables.
 * @param {number} share Percent.
 * @param {string} [kind] Class of the color.
 */
export function shareBar(share, kind = "s0") {
  const width = Math.max(0, Math.min(100, share));
  const size = { width: 100, height: 6 };
  return h(
    "svg",
    { class: "share", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true", ...size },
    h("rect", { class: "track", ...size, rx: 1 }),
    h("rect", { class: kind, ...size, width: n(width), rx: 1 }),
  );
}

/** Class of a cell of a heatmap: ten steps from idle to full. @param {number | undefined} value Percent. */
export function heatClass(value) {
  return value === undefined ? "h-none" : `h${Math.max(0, Math.min(9, Math.floor(value / 10)))}`;
}

/**
 * A heatmap: a table with a row for each node and a cell for each device.
 * @param {{ rows: { head: any, cells: { value?: number, title: string }[] }[], columns: number, caption: string }} options
 */
export function heatmap({ rows, columns, caption }) {
  const places = Array.from({ length: columns }, (_, i) => i);
  const heads = places.map((i) => h("th", { scope: "col", class: "num" }, String(i)));
  const lines = rows.map(({ head, cells }) => [
    h("th", { scope: "row" }, head),
    cells.map(({ value, title }) => h("td", { class: heatClass(value), title }, value?.toFixed(0) ?? "–")),
    places.slice(cells.length).map(() => h("td", { class: "h-empty" })),
  ]);
  return h(
    "table",
    { class: "heat" },
    h("caption", { class: "quiet" }, caption),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "node"), heads)),
    h("tbody", {}, lines.map((line) => h("tr", {}, line))),
  );
}

/** @param {number} value */
function n(value) {
  return Number(value.toFixed(2));
}

/** @param {number[]} values */
function add(values) {
  return values.reduce((sum, value) => sum + value, 0);
}
