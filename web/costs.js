// @ts-check
/** Costs: totals, series, ranked groups, and the entries behind them. */
import { COLORS, shareBar, stackedBars } from "./charts.js";
import {
  addAmounts,
  bucketLabel,
  condition,
  count,
  dateTime,
  day,
  fieldName,
  groupName,
  percent,
  timeOf,
} from "./format.js";
import { bucketOfRange, rangeParams } from "./state.js";
import { h, toDom } from "./tree.js";
import {
  amount,
  button,
  card,
  cards,
  changeOf,
  chart,
  chips,
  code,
  empty,
  field,
  hidden,
  link,
  num,
  panel,
  quiet,
  saveCsv,
  select,
  suggestions,
  swatch,
  table,
  text,
  tipOf,
  when,
  wide,
} from "./ui.js";

/** @import { Context, Links, Page } from "./main.js" */

/** Command that brings costs. */
export const IMPORT = "openfinops database import costs FILE";
const TOP = 8;
const ENTRIES = 50;
/** Fields that most bills have. Keys of tags come from the entries. */
const FIELDS = [
  "category",
  "serviceName",
  "resourceId",
  "region",
  "subAccountId",
  "billingAccountId",
  "serviceProviderName",
  "chargeCategory",
  "source",
];

/** Keys of tags that entries had, for the lists. */
const tagKeys = /** @type {Set<string>} */ (new Set());
let hasTagKeys = false;

/** @type {Page} */
export const costsPage = {
  name: "costs",
  title: "Costs",
  filters: ["range", "zone"],
  tools: filters,
  show,
};

/** Name of a total: currencies, and billed and estimated costs, are never added. @param {any} row */
export function nameOfMoney({ currency, basis }) {
  return basis === "estimated" ? `${currency} estimated` : currency;
}

/** @param {Context} context */
function filters(context) {
  const { state, go } = context;
  const fields = [...FIELDS, ...[...tagKeys].map((key) => `tags.${key}`)];
  if (!fields.includes(state.by)) fields.push(state.by);
  const onsubmit = (/** @type {any} */ event) => {
    event.preventDefault();
    const text = event.target.elements.where.value.trim();
    if (text) go({ where: [...new Set([...state.where, text])] });
  };
  const oninput = (/** @type {any} */ event) => complete(context, event.target);
  const list = suggestions("conditions", fields.map((field) => `${fieldName(field)}=`));
  const placeholder = "tags.team=nlp, amount>100 …";
  return [
    select("Group by", {
      value: state.by,
      options: fields.map((field) => [field, field]),
      onchange: (by) => go({ by }),
    }),
    h(
      "form",
      { class: "where", onsubmit },
      field("Filter", { id: "where", name: "where", list: "conditions", placeholder, oninput }, list),
    ),
    chips(state.where, (i) => go({ where: state.where.filter((_, at) => at !== i) })),
  ];
}

/** Offers the values of a field. @param {Context} context @param {HTMLInputElement} input */
async function complete({ state, rows }, input) {
  const [, field] = /^((?:[^\s="]|"[^"]*")+)\s*!?=/.exec(input.value) ?? [];
  if (!field || input.dataset.field === field) return;
  input.dataset.field = field;
  try {
    const found = await rows("costs/aggregate", { ...rangeParams(state), "group-by": field, limit: 20 });
    const values = [...new Set(found.flatMap(({ group }) => Object.values(group ?? {})))];
    const offered = values.filter((value) => value !== null).map((value) =>
      `${field}=${/^[\w.-]+$/.test(String(value)) ? value : JSON.stringify(value)}`
    );
    document.getElementById("conditions")?.replaceWith(toDom(suggestions("conditions", offered)));
  } catch { /* the list stays as it is */ }
}

/** @param {Context} context */
function show(context) {
  const { state, ask, rows, once } = context;
  const { where } = state;
  // One question for the whole page: the server then reads the costs of each day once.
  const params = { ...rangeParams(state), where, "group-by": fieldName(state.by), top: TOP };
  const bucket = bucketOfRange(state.range);
  const summary = once(() => ask("views/costs", { ...params, bucket, month: "true" }));
  const keys = readTagKeys(context);
  const untagged = once(async () => {
    await keys;
    const [key] = tagKeys;
    const field = state.by.startsWith("tags.") ? state.by : key && `tags.${key}`;
    if (!field) return {};
    const missing = { ...rangeParams(state), where: [...where, `${fieldName(field)} missing`] };
    return { field, rows: await rows("costs/aggregate", missing) };
  });
  for (const load of [summary, untagged]) load().catch(() => {}); // the panels report errors
  const chosen = async () => {
    const { currencies, ...range } = await summary();
    const names = currencies.map(nameOfMoney);
    const weight = (/** @type {any} */ { basis, count }) => (basis ? 0 : 1e12) + count; // bills first
    const [most] = currencies.toSorted((/** @type {any} */ a, /** @type {any} */ b) => weight(b) - weight(a));
    const name = names.includes(state.money) ? state.money : most && nameOfMoney(most);
    return { ...range, currencies, names, found: currencies[names.indexOf(name)] };
  };
  const tools = button("Save CSV", async () => save(context, await chosen()));
  return [
    panel(context, { kind: "plain" }, async () => summaryCards(context, await chosen(), await untagged())),
    panel(context, { title: "Over time" }, async () => series(context, await chosen())),
    panel(context, { title: `By ${state.by}`, tools }, async () => ranked(context, (await chosen()).found)),
    panel(context, { title: "Entries" }, async () => entries(context, (await chosen()).found)),
  ];
}

/** @param {Context} context */
function summaryCards(
  context,
  /** @type {any} */ { names, found, dataEnd, startTime, endTime, month },
  /** @type {any} */ { field, rows: without = [] },
) {
  const { state, go } = context;
  if (!found) {
    return state.where.length > 0
      ? empty("No costs match these filters in this range.")
      : empty("No costs in this range.", IMPORT);
  }
  const { currency } = found;
  const isSame = (/** @type {any} */ row) => nameOfMoney(row) === nameOfMoney(found);
  const ofMonth = month.currencies.find(isSame);
  const untagged = without.find(isSame);
  const complete = dataEnd && timeOf(dataEnd) < timeOf(endTime)
    ? `, complete to ${day(timeOf(dataEnd) - 1, state.zone)}`
    : "";
  return [
    names.length > 1 && h(
      "div",
      { class: "tabs", role: "group", "aria-label": "Currency" },
      names.map((/** @type {string} */ name) =>
        button(name, () => go({ money: name }), { "aria-pressed": String(name === nameOfMoney(found)) })
      ),
    ),
    cards(
      totalCard(found),
      card(
        "Month to date",
        ofMonth ? amount(ofMonth.total, currency) : "–",
        ofMonth && changeSince(ofMonth),
      ),
      forecastCard("Forecast of the month", ofMonth),
      averageCard(found),
      field !== undefined &&
        card(
          `Without ${field}`,
          percent(Number(untagged?.total ?? 0) / Number(found.total) * 100),
          untagged ? [amount(untagged.total, currency), ` ${currency}`] : "every cost has it",
        ),
    ),
    quiet(
      `${day(startTime, state.zone)} to ${
        day(timeOf(endTime) - 1, state.zone)
      } (${state.zone})${complete} · ${count(found.count)} costs`,
    ),
  ];
}

/** Returns the change, with the name of what it is against: one baseline for a total and its groups. @param {any} row */
function changeSince({ sameDaysTotal, sameDaysChange, change }) {
  return sameDaysTotal === undefined
    ? [changeOf(change), " against the whole period before"]
    : [changeOf(sameDaysChange), " against the same days of the period before"];
}

/** @param {any} found A summary of one currency. */
export const totalCard = (found) =>
  card(`Total, ${nameOfMoney(found)}`, amount(found.total, found.currency), changeSince(found));

/** @param {string} title @param {any} found */
export function forecastCard(title, { currency, forecast, noForecast = "no costs" } = {}) {
  if (!forecast) return card(title, "–", noForecast);
  const range = ["8 of 10 times ", amount(forecast.low, currency), " to ", amount(forecast.high, currency)];
  return card(title, amount(forecast.total, currency), range);
}

/** @param {any} found */
export const averageCard = ({ averagePerDay, averageDays, currency, trend }) =>
  card(
    averageDays === undefined
      ? "Average of a day with costs"
      : `Average of ${count(averageDays)} complete ${averageDays === 1 ? "day" : "days"}`,
    amount(averagePerDay, currency),
    trend && `Daily costs are ${trend}`,
  );

/**
 * Reads the keys of tags that the newest entries have, once, and draws the filters again.
 * @param {Context} context
 */
async function readTagKeys({ state, rows, redraw }) {
  if (hasTagKeys) return;
  try {
    const found = await rows("costs", { ...rangeParams(state), limit: 200, order: "desc" });
    for (const { tags } of found) for (const key of Object.keys(tags ?? {})) tagKeys.add(key);
    hasTagKeys = true;
    redraw();
  } catch { /* the list has fields only */ }
}

/** Order and colors of groups: those of the ranked table. @param {any} found */
function colorsOf(found) {
  /** @type {any[]} */
  const rows = found.breakdowns[0]?.rows ?? [];
  return new Map(rows.map((row, i) => [groupName(row), row.isOther ? COLORS - 1 : i]));
}

/**
 * Series of a chart from rows of an aggregate, in the order and colors of the ranked table.
 * @param {any[]} all @param {{ found: any, by: string, bucket: string, zone: string }} options
 */
export function costSeries(all, { found, by, bucket, zone }) {
  const rows = all.filter((row) => nameOfMoney(row) === nameOfMoney(found));
  const times = [...new Set(rows.map((row) => timeOf(row.startTime)))].sort((a, b) => a - b);
  const ends = new Map(rows.map((row) => [timeOf(row.startTime), timeOf(row.endTime)]));
  const place = new Map(times.map((time, i) => [time, i]));
  const colors = colorsOf(found);
  /** @type {Map<string, (string | null)[]>} */
  const groups = new Map();
  for (const row of rows) {
    const name = colors.has(groupName(row)) ? groupName(row) : "(other)";
    const values = groups.get(name) ?? times.map(() => null);
    const at = /** @type {number} */ (place.get(timeOf(row.startTime)));
    values[at] = values[at] === null ? row.total : addAmounts([values[at], row.total]);
    groups.set(name, values);
  }
  const drawn = [...groups].map(([name, amounts]) => {
    const color = colors.get(name) ?? COLORS - 1;
    return { name, color, amounts, values: amounts.map(Number) };
  }).sort((a, b) => a.color - b.color);
  const labels = times.map((time) => bucketLabel(time, { bucket, zone }));
  const title = `Costs of ${times.length} buckets of ${bucket} by ${by} in ${nameOfMoney(found)}.`;
  return { times, ends, drawn, labels, title: `${title} The table below has the totals.` };
}

/** @param {Context} context */
function series({ state, signal, go }, /** @type {any} */ { found, series }) {
  if (!found) return empty("Nothing to draw.");
  const bucket = bucketOfRange(state.range);
  const options = { found, by: state.by, bucket, zone: state.zone };
  const { times, ends, drawn, labels, title } = costSeries(series, options);
  return chart({
    signal,
    count: times.length,
    draw: (width) => stackedBars({ labels, series: drawn, width, height: 260, title }),
    tell: (at) => {
      const present = drawn.filter(({ amounts }) => amounts[at] && amounts[at] !== "0");
      const total = addAmounts(present.map(({ amounts }) => /** @type {string} */ (amounts[at])));
      const when = bucket.endsWith("h") ? dateTime(times[at], state.zone) : day(times[at], state.zone);
      return tipOf(
        `${when} · ${total} ${nameOfMoney(found)}`,
        present.map(({ name, color, amounts }) => ({ name, color, value: amounts[at] })),
      );
    },
    choose: (at) => {
      const [from, until] = [times[at], ends.get(times[at]) ?? times[at]].map((time) =>
        bucket.endsWith("h") ? new Date(time).toISOString() : day(time, state.zone)
      );
      go({ range: `${from}..${until}` });
    },
  });
}

/**
 * A table of groups, the most expensive first.
 * @param {Links} context @param {any} found @param {any} [breakdown]
 */
export function ranked({ state, to }, found, breakdown = found?.breakdowns[0]) {
  if (!found) return empty("No groups.");
  const colors = colorsOf(found);
  const { currency, sameDaysTotal } = found;
  const before = sameDaysTotal === undefined ? "period before" : "same days before";
  const hrefOf = (/** @type {any} */ { group }) =>
    to({ where: [...new Set([...state.where, condition(state.by, Object.values(group)[0])])] });
  return table(`Costs by ${state.by} in ${nameOfMoney(found)}`, breakdown?.rows ?? [], [
    text(state.by, (row) => [
      swatch(colors.get(groupName(row)) ?? 0),
      row.isOther ? groupName(row) : link(hrefOf(row), groupName(row)),
    ]),
    num("total", (row) => amount(row.total, currency)),
    num("share", (row) => percent(row.share)),
    wide.text(hidden("bar"), (row) => shareBar(row.share, `s${colors.get(groupName(row)) ?? 0}`)),
    wide.num(before, (row) => amount(row.sameDaysTotal ?? row.previousTotal ?? "0", currency)),
    num("change", (row) => changeOf(sameDaysTotal === undefined ? row.change : row.sameDaysChange)),
    wide.num("costs", (row) => count(row.count)),
  ]);
}

/** @param {Context} context */
function save({ state }, /** @type {any} */ { found }) {
  if (!found) return;
  const { currency, basis = "billed", breakdowns: [{ rows }] } = found;
  const header = [state.by, ..."currency,basis,total,share,previousTotal,change,count".split(",")];
  const of = (/** @type {any} */ row) => ({ ...row, [state.by]: groupName(row), currency, basis });
  saveCsv(`costs-${state.range}.csv`, header, rows.map(of));
}

/** @param {Context} context @param {any} summary */
async function entries({ state, rows, to, go }, summary) {
  if (!summary) return empty("No entries.");
  if (state.more.entries !== "1") {
    const show = () => go({ more: { ...state.more, entries: "1" } });
    return h("p", {}, button("Show the newest entries", show, { id: "entries" }));
  }
  const { currency, basis } = summary;
  const where = [...state.where, condition("currency", currency), `basis${basis ? "=" : "!="}estimated`];
  const found = await rows("costs", { ...rangeParams(state), where, limit: ENTRIES, order: "desc" });
  if (found.length === 0) return empty("No entries in this range.");
  const hrefOf = (/** @type {string | null} */ id) =>
    to({ where: [...state.where, condition("resourceId", id)] });
  const tag = (/** @type {[string, any]} */ [key, value]) => h("span", { class: "tag" }, `${key}=${value}`);
  return [
    table("Newest entries", found, [
      when("time", ({ timestamp }) => dateTime(timestamp, state.zone)),
      num("amount", (row) => amount(row.amount, row.currency)),
      text("currency", nameOfMoney),
      text("category", ({ category }) => category),
      wide.text("service", ({ serviceName }) => serviceName ?? ""),
      text("resource", ({ resourceId }) => link(hrefOf(resourceId), resourceId)),
      wide.text("tags", ({ tags }) => Object.entries(tags ?? {}).map(tag)),
      wide.text("entry", ({ entryId }) => code(entryId)),
    ]),
    quiet(
      found.length === ENTRIES ? `The newest ${ENTRIES} entries. All: ` : "All of them. As a file: ",
      code("openfinops database export costs"),
    ),
  ];
}
