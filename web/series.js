// @ts-check
/** Long series by uPlot, which draws thousands of points. */
import { age, bucketLabel, dateTime } from "./format.js";
import { h, onResize, toElement } from "./tree.js";
import { shortOr } from "./ui.js";

/** @typedef {{ name: string, color: number, values: (number | null)[] }} Line */
/** @typedef {{ times: number[], lines: Line[], zone: string, title: string, unit?: string }} Lines */

/** Draws lines over time. @param {Lines & { height?: number, signal: AbortSignal }} options */
export function timeSeries({ times, lines, zone, title, unit = "", height = 180, signal }) {
  const label = describe({ times, lines, zone, title, unit });
  const box = toElement(h("div", { class: "series", role: "img", "aria-label": label }));
  /** @type {any} */
  let plot;
  const draw = () => {
    const width = Math.floor(box.clientWidth);
    if (width === 0) return;
    if (plot) return plot.setSize({ width, height });
    plot = new /** @type {any} */ (globalThis).uPlot(
      plotOptions(box, { times, lines, zone, unit, width, height }),
      [times.map((time) => time / 1_000), ...lines.map(({ values }) => values)],
      box,
    );
  };
  onResize(box, draw, signal);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => {
    plot?.destroy();
    plot = undefined;
    draw();
  };
  scheme.addEventListener("change", redraw, { signal });
  signal.addEventListener("abort", () => plot?.destroy());
  return box;
}

/**
 * Options of a plot, with the colors of the theme.
 * @param {HTMLElement} box
 * @param {Omit<Lines, "title"> & { width: number, height: number }} options
 */
function plotOptions(box, { times, lines, zone, unit, width, height }) {
  const color = (/** @type {string} */ name) => {
    box.style.color = `var(${name})`;
    return getComputedStyle(box).color;
  };
  const axis = {
    stroke: color("--quiet"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  // Callbacks of uPlot, which passes itself as the first argument.
  /** @type {Record<string, (_: any, first: any, second: any) => any>} */
  const of = {
    show: (_, value) => shortOr(value, unit),
    time: (_, seconds) => seconds ? dateTime(seconds * 1_000, zone) : "–",
    names: (_, all) => all.map((/** @type {number} */ seconds) => tick(seconds * 1_000, { times, zone })),
    values: (_, all) => all.map((/** @type {number} */ value) => shortOr(value, unit)),
    range: (_, low, high) =>
      unit === " %" ? [0, Math.max(100, high)] : [Math.min(0, low), high > 0 ? high * 1.1 : 1],
  };
  return {
    width,
    height,
    tzDate: (/** @type {number} */ seconds) => zoned(seconds * 1_000, zone),
    cursor: { y: false, points: { size: 7 } },
    scales: { y: { range: of.range } },
    axes: [{ ...axis, space: 70, size: 30, values: of.names }, { ...axis, size: 52, values: of.values }],
    series: [
      { label: "Time", value: of.time },
      ...lines.map(({ name, color: number }) => ({
        label: name,
        stroke: color(`--c${number}`),
        width: 1.5,
        points: { show: times.length < 3 },
        value: of.show,
      })),
    ],
  };
}

/** Label of a time: a clock, or the day where that begins. @param {number} time @param {{ times: number[], zone: string }} options */
function tick(time, { times, zone }) {
  const isLong = times[times.length - 1] - times[0] > 4 * 86_400_000;
  const isMidnight = dateTime(time, zone).endsWith(" 00:00");
  return bucketLabel(time, { bucket: isLong || isMidnight ? "1d" : "1h", zone });
}

/** Words for people who do not see the lines. @param {Lines} options */
function describe({ times, lines, zone, title, unit }) {
  if (times.length === 0) return title;
  const last = lines.map(({ name, values }) => {
    const value = values.findLast((value) => value !== null && value !== undefined);
    return `${name} ${value === undefined ? "none" : shortOr(value, unit)}`;
  });
  return `${title}, ${dateTime(times[0], zone)} to ${dateTime(times[times.length - 1], zone)}. Newest: ${
    last.join(", ")
  }.`;
}

/** A date whose local fields are those of a zone, as uPlot reads them. @param {number} time @param {string} zone */
function zoned(time, zone) {
  const local = new Date(time).toLocaleString("sv-SE", { timeZone: zone }); // 2026-11-30 14:05:00
  return new Date(Date.parse(local.replace(" ", "T")) + time % 1_000);
}

/**
 * Lines from rows of an aggregate: a line for each group and measure.
 * @param {any[]} rows
 * @param {{ time: (row: any) => number, nameOf: (row: any) => string, valueOf: (row: any) => number | null, names?: string[] }} options
 */
export function linesOf(rows, { time, nameOf, valueOf, names }) {
  const times = [...new Set(rows.map(time))].sort((a, b) => a - b);
  const place = new Map(times.map((each, i) => [each, i]));
  /** @type {Map<string, (number | null)[]>} */
  const found = new Map((names ?? []).map((name) => [name, times.map(() => null)]));
  for (const row of rows) {
    const values = found.get(nameOf(row)) ?? times.map(() => null);
    values[/** @type {number} */ (place.get(time(row)))] = valueOf(row);
    found.set(nameOf(row), values);
  }
  return { times, lines: [...found].map(([name, values], i) => ({ name, color: i % 9, values })) };
}

/** @param {number | undefined} time @param {number} now */
export function ageOf(time, now) {
  return time === undefined || Number.isNaN(time) ? "never" : age(now - time);
}
