// @ts-check
/** Data: stored, waiting and refused records, and retention. */
import { bytes, count, dateTime, day, timeOf } from "./format.js";
import { ageOf } from "./series.js";
import { h } from "./tree.js";
import { amount, badge, card, cards, code, empty, num, or, panel, quiet, table, text, wide } from "./ui.js";

/** @import { Context, Page } from "./main.js" */

/** @type {Page} */
export const dataPage = {
  name: "data",
  title: "Data",
  filters: ["zone"],
  show,
};

/** @param {Context} context */
function show(context) {
  const { zone } = context.state;
  const read = context.once(() => context.ask("views/data"));
  return [
    panel(context, { kind: "plain" }, async () => storage(await read())),
    panel(context, { title: "Datasets" }, async () => datasets(await read(), zone)),
    panel(context, { title: "Intake of this server" }, async () => counters(await read())),
    panel(context, { title: "Refused records" }, async () => letters(await read(), zone)),
    panel(context, { title: "Unmapped metrics" }, async () => unmapped(await read())),
    panel(context, { title: "Deliveries" }, async () => deliveries(await read(), zone)),
    panel(context, { title: "Totals" }, async () => totals(await read())),
  ];
}

/** @param {any} view */
function storage({ storage, at, sources, datasets }) {
  const rows = datasetsOf(datasets).reduce((sum, { rows }) => sum + rows, 0);
  const size = Object.entries(storage).find(([name]) => name.endsWith("SizeBytes"));
  /** @type {any[]} */
  const feeds = sources;
  const [late] = feeds.toSorted((a, b) => timeOf(a.deliveredAt) - timeOf(b.deliveredAt));
  const ageOfLate = late ? ageOf(timeOf(late.deliveredAt), timeOf(at)) : "–";
  return [
    cards(
      card("Records", count(rows)),
      size && card("Size", bytes(Number(size[1]))),
      card("Oldest feed", ageOfLate, late ? late.source : "no bill was imported"),
    ),
    quiet(
      Object.entries(storage).filter(([name]) => !name.endsWith("SizeBytes")).map(([name, value]) =>
        `${name}: ${value}`
      ).join(" · "),
    ),
  ];
}

/** @param {any} datasets A list, or an object by name. @returns {any[]} */
export function datasetsOf(datasets) {
  return Array.isArray(datasets)
    ? datasets
    : Object.entries(datasets).map(([dataset, rest]) => ({ dataset, .../** @type {object} */ (rest) }));
}

/** @param {any} view @param {string} zone */
function datasets({ datasets, at }, zone) {
  const age = (/** @type {number | string} */ time) => ageOf(timeOf(time), timeOf(at));
  return table("Datasets", datasetsOf(datasets), [
    text("dataset", ({ dataset }) => dataset),
    num("records", ({ rows }) => count(rows)),
    wide.num("oldest", ({ oldest }) => day(oldest, zone)),
    num(
      "newest",
      ({ newest }) => or(newest, () => h("span", { title: dateTime(newest, zone) }, age(newest))),
    ),
    num("kept", ({ retentionDays }) => retentionDays === undefined ? "for good" : `${retentionDays} days`),
    wide.num(
      "size",
      ({ tableBytes, indexBytes = 0 }) => or(tableBytes, () => bytes(tableBytes + indexBytes)),
    ),
  ]);
}

const SETTLED = ["committed", "duplicates", "deadLettered", "dropped", "spooled", "buffered", "inFlight"];

/** @param {any} view */
function counters({ pipelines }) {
  const rows = Object.entries(pipelines ?? {}).filter(([, stats]) => stats.accepted > 0 || stats.refused > 0);
  if (rows.length === 0) {
    return empty("This server has taken in no record since its start.", "openfinops collect --send URL");
  }
  const number = (/** @type {string} */ name, columns = wide) =>
    columns.num(name, ([, stats]) => count(stats[name] ?? 0));
  const settled = (/** @type {any} */ stats) => SETTLED.reduce((sum, name) => sum + (stats[name] ?? 0), 0);
  return table("Counters: what was accepted is committed, waits, or is accounted for", rows, [
    text("dataset", ([dataset]) => dataset),
    number("accepted", { text, num }),
    ...SETTLED.map((name) => number(name, ["committed", "spooled"].includes(name) ? { text, num } : wide)),
    text("adds up", ([, stats]) => badge(stats.accepted === settled(stats) ? "ok" : "critical")),
    number("retries"),
    wide.num("spool", ([, { spoolBytes }]) => bytes(spoolBytes ?? 0)),
    wide.num(
      "oldest waiting",
      ([, { oldestUnacknowledgedMs: ms }]) => ms ? `${(ms / 1_000).toFixed(1)} s` : "–",
    ),
  ]);
}

/** @param {any} view @param {string} zone */
function letters({ deadLetters }, zone) {
  if (deadLetters === undefined) {
    return empty(
      "No folder of this server keeps refused records.",
      "openfinops serve --spool-directory spool",
    );
  }
  if (deadLetters.length === 0) return h("p", {}, "None.");
  return [
    table("Refused records", deadLetters, [
      text("dataset", ({ dataset }) => dataset),
      num("records", ({ count: found }) => count(found)),
      num("newest", ({ newest }) => dateTime(newest, zone)),
      text("reason", ({ message }) => message),
    ]),
    quiet("After the cause is removed: ", code("openfinops database dead-letter retry")),
  ];
}

/** @param {any} view */
function unmapped({ unmapped = [] }) {
  if (unmapped.length === 0) return h("p", {}, "None: every point that arrived has a field.");
  return [
    table("Metrics without a field", unmapped.slice(0, 50), [
      text("metric", ({ name }) => code(name)),
      num("points", ({ points }) => count(points)),
    ]),
    quiet("They are not stored. Map them: ", code("openfinops serve --metric-map FILE")),
  ];
}

/** @param {any} view @param {string} zone */
function deliveries({ deliveries, sources, at }, zone) {
  if (deliveries.length === 0) return empty("No bill was imported.", "openfinops database import costs FILE");
  return [
    table("Sources of costs", sources, [
      text("source", ({ source }) => source),
      num("last delivery", ({ deliveredAt }) => ageOf(timeOf(deliveredAt), timeOf(at))),
      num("newest period", ({ newestPeriod }) => day(newestPeriod, "UTC")),
      num("costs", ({ rows }) => count(rows)),
    ]),
    table("Newest deliveries", deliveries, [
      text("time", ({ at }) => dateTime(at, zone)),
      text("files", ({ files }) => files.join(", ")),
      wide.num("delivered", ({ delivered }) => count(delivered)),
      num("stored", ({ rows }) => count(rows)),
      wide.text("delivery", ({ id }) => code(id)),
    ]),
  ];
}

/** @param {any} view */
function totals({ totals, policies = [] }) {
  return [
    totals.length === 0 ? empty("No costs.") : table("Exact totals", totals, [
      text("currency", ({ currency, basis }) => basis ? `${currency} ${basis}` : currency),
      num("total", ({ total, currency }) => amount(total, currency)),
      wide.num("exact", ({ total }) => code(total)),
      num("costs", (row) => count(row.count)),
    ]),
    policies.length > 0 && table("Policies of the database", policies, [
      text("policy", ({ policy }) => policy.replaceAll("_", " ")),
      text("of", ({ table }) => table),
      wide.text("every", ({ every }) => every),
      text("last", ({ lastStatus = "not yet" }) => badge(lastStatus)),
      num("failures", ({ failures }) => count(failures)),
    ]),
  ];
}
