// @ts-check
/**
 * Data: stored, waiting and refused records, and retention.
 *
 * @module
 */
import { ask } from "./api.js";
import { bytes, count, dateTime, day, timeOf } from "./format.js";
import { ageOf } from "./series.js";
import { h } from "./tree.js";
import { amount, badge, card, cards, code, empty, num, panel, quiet, table, text } from "./ui.js";

/** @typedef {import("./main.js").Context} Context */

/** @type {import("./main.js").Page} */
export const dataPage = {
  name: "data",
  title: "Data",
  filters: ["zone"],
  show,
};

/** @param {Context} context */
function show(context) {
  const { state, signal } = context;
  const { zone } = state;
  /** @type {Promise<any> | undefined} */
  let view;
  context.refreshers.push(() => view = undefined);
  const read = () => view ??= ask("views/data", {}, { signal });
  return [
    panel(context, { kind: "plain" }, async () => storage(await read(), zone)),
    panel(context, { title: "Datasets" }, async () => datasets(await read(), zone)),
    panel(context, { title: "Intake of this server" }, async () => counters(await read())),
    panel(context, { title: "Refused records" }, async () => letters(await read(), zone)),
    panel(context, { title: "Unmapped metrics" }, async () => unmapped(await read())),
    panel(context, { title: "Deliveries" }, async () => deliveries(await read(), zone)),
    panel(context, { title: "Totals" }, async () => totals(await read())),
  ];
}

/** @param {any} view @param {string} zone */
function storage({ storage, at, sources, datasets }, zone) {
  const rows = datasetsOf(datasets).reduce((sum, { rows }) => sum + rows, 0);
  const size = Object.entries(storage).find(([name]) => name.endsWith("SizeBytes"));
  const late =
    sources.toSorted((/** @type {any} */ a, /** @type {any} */ b) =>
      timeOf(a.deliveredAt) - timeOf(b.deliveredAt)
    )[0];
  return [
    cards(
      card("Records", count(rows)),
      size && card("Size", bytes(Number(size[1]))),
      card(
        "Oldest feed",
        late ? ageOf(timeOf(late.deliveredAt), timeOf(at)) : "–",
        late ? late.source : "no bill was imported",
      ),
    ),
    quiet(
      `At ${dateTime(at, zone)} (${zone}). `,
      Object.entries(storage).filter(([name]) => !name.endsWith("SizeBytes")).map(([name, value]) =>
        `${name}: ${value}`
      ).join(" · "),
    ),
  ];
}

/** @param {any} datasets A list, or an object by name. @returns {any[]} */
function datasetsOf(datasets) {
  return Array.isArray(datasets)
    ? datasets
    : Object.entries(datasets).map(([dataset, rest]) => ({ dataset, .../** @type {object} */ (rest) }));
}

/** @param {any} view @param {string} zone */
function datasets({ datasets, at }, zone) {
  return table("Datasets", datasetsOf(datasets), [
    text("dataset", ({ dataset }) => dataset),
    num("records", ({ rows }) => count(rows)),
    num("oldest", ({ oldest }) => day(oldest, zone), "wide"),
    num(
      "newest",
      ({ newest }) =>
        newest === undefined
          ? "–"
          : h("span", { title: dateTime(newest, zone) }, ageOf(timeOf(newest), timeOf(at))),
    ),
    num("kept", ({ retentionDays }) => retentionDays === undefined ? "for good" : `${retentionDays} days`),
    num(
      "size",
      ({ tableBytes, indexBytes = 0 }) => tableBytes === undefined ? "–" : bytes(tableBytes + indexBytes),
      "wide",
    ),
  ]);
}

const SETTLED = ["committed", "duplicates", "deadLettered", "dropped", "spooled", "buffered", "inFlight"];

/** @param {any} view */
function counters({ pipelines }) {
  const rows = Object.entries(pipelines ?? {}).filter(([, { accepted, refused }]) =>
    accepted > 0 || refused > 0
  );
  if (rows.length === 0) {
    return empty("This server has taken in no record since its start.", "openfinops collect --send URL");
  }
  const number = (
    /** @type {string} */ name,
    kind = "",
  ) => (num(name, (/** @type {any} */ [, stats]) => count(stats[name] ?? 0), kind));
  return table("Counters: what was accepted is committed, waits, or is accounted for", rows, [
    text("dataset", ([dataset]) => dataset),
    number("accepted"),
    ...SETTLED.map((name) => number(name, ["committed", "spooled"].includes(name) ? "" : "wide")),
    text("adds up", ([, stats]) =>
      badge(
        stats.accepted === SETTLED.reduce((sum, name) => sum + (stats[name] ?? 0), 0) ? "ok" : "critical",
      )),
    number("retries", "wide"),
    num("spool", ([, { spoolBytes }]) => bytes(spoolBytes ?? 0), "wide"),
    num(
      "oldest waiting",
      ([, { oldestUnacknowledgedMs }]) =>
        oldestUnacknowledgedMs ? `${(oldestUnacknowledgedMs / 1_000).toFixed(1)} s` : "–",
      "wide",
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
      num("delivered", ({ delivered }) => count(delivered), "wide"),
      num("stored", ({ rows }) => count(rows)),
      text("delivery", ({ id }) => code(id), "wide"),
    ]),
  ];
}

/** @param {any} view */
function totals({ totals, policies = [] }) {
  return [
    totals.length === 0 ? empty("No costs.") : table("Exact totals", totals, [
      text("currency", ({ currency, basis }) => basis ? `${currency} ${basis}` : currency),
      num("total", ({ total, currency }) => amount(total, currency)),
      num("exact", ({ total }) => code(total), "wide"),
      num("costs", (row) => count(row.count)),
    ]),
    policies.length > 0 && table("Policies of the database", policies, [
      text("policy", ({ policy }) => policy.replaceAll("_", " ")),
      text("of", ({ table }) => table),
      text("every", ({ every }) => every, "wide"),
      text("last", ({ lastStatus = "not yet" }) => badge(lastStatus)),
      num("failures", ({ failures }) => count(failures)),
    ]),
  ];
}
