// @ts-check
/** Budgets with their burn-down, anomalies on their series, and alerts. */
import { ask } from "./api.js";
import { lines, stackedBars } from "./charts.js";
import { bucketLabel, change, condition, dateTime, day, money, percent, short, timeOf } from "./format.js";
import { nameOfMoney } from "./costs.js";
import { rangeParams } from "./state.js";
import { h } from "./tree.js";
import {
  amount,
  badge,
  button,
  chart,
  code,
  empty,
  hidden,
  link,
  num,
  panel,
  quiet,
  shortOr,
  table,
  text,
  tipOf,
  when,
  wide,
} from "./ui.js";

/** @import { Context, Page } from "./main.js" */

const DAY = 86_400_000;
/** Most budgets that have a chart. The others are rows of a table. */
const CHARTS = 12;

/** @type {Page} */
export const budgetsPage = {
  name: "budgets",
  title: "Budgets",
  filters: ["range", "zone"],
  show: (context) => [
    panel(context, { title: "Budgets" }, () => budgets(context)),
    panel(context, { title: "Anomalies" }, () => anomalies(context)),
    panel(context, { title: "Active alerts" }, () => alerts(context)),
  ],
};

/** @param {Context} context */
async function budgets({ state, signal, ask, to }) {
  const all = (await ask("views/budgets")).budgets;
  const found = all.toSorted((/** @type {any} */ a, /** @type {any} */ b) =>
    Number(b.budgetId === state.more.budget) - Number(a.budgetId === state.more.budget) ||
    b.utilization - a.utilization
  );
  if (found.length === 0) {
    return empty(
      "No budgets.",
      "openfinops costs set-budget nlp --amount 5000 --currency USD --period 1mo --tag team=nlp",
    );
  }
  const others = table("Other budgets, the most used first", found.slice(CHARTS), [
    text("budget", (row) => link(to({ more: { budget: row.budgetId } }), row.name || row.budgetId)),
    text("status", ({ status }) => badge(status)),
    num("spent", (row) => [amount(row.spent, row.currency), ` ${row.currency}`]),
    wide.num("limit", (row) => amount(row.amount, row.currency)),
    num("used", ({ utilization }) => percent(utilization)),
  ]);
  const shown = found.slice(0, CHARTS).map((/** @type {any} */ each) => budget(each, signal));
  return [h("div", { class: "budgets" }, shown), found.length > CHARTS && others];
}

/**
 * Points of a burn-down: what is left of the limit after each day, and where that leads.
 * @param {any} budget
 */
export function burnDown(
  { startTime, endTime, amount, spent, projectedSpend, dataEnd, days = [], timeZone },
  now = Date.now(),
) {
  const [start, end] = [timeOf(startTime), timeOf(endTime)];
  const limit = Number(amount);
  const length = Math.max(1, Math.round((end - start) / DAY));
  const today = Math.min(length - 1, Math.floor((Math.min(now, end - 1) - start) / DAY));
  const perDay = Array.from({ length }, () => 0);
  for (const { startTime, total } of days) {
    perDay[Math.min(length - 1, Math.round((timeOf(startTime) - start) / DAY))] += total;
  }
  let sum = 0;
  const left = perDay.map((total, i) => {
    sum += total;
    return i <= today ? limit - sum : null;
  });
  left[today] = limit - Number(spent);
  // Days whose costs may still come, and the last complete one, at which their line begins.
  const complete = dataEnd === undefined ? today : Math.round((timeOf(dataEnd) - start) / DAY) - 1;
  const isLate = complete >= 0 && complete < today - 1;
  const isOver = now >= end;
  const projected = projectedSpend === undefined || isOver ? undefined : left.map((_, i) => {
    if (i < today) return null;
    const part = length - 1 === today ? 1 : (i - today) / (length - 1 - today);
    return limit - (Number(spent) + (Number(projectedSpend) - Number(spent)) * part);
  });
  const labels = left.map((_, i) => bucketLabel(start + i * DAY + DAY / 2, { bucket: "1d", zone: timeZone }));
  return {
    labels,
    left: isLate ? left.map((value, i) => i <= complete ? value : null) : left,
    late: isLate ? left.map((value, i) => i >= complete ? value : null) : undefined,
    projected,
    even: left.map((_, i) => limit * (1 - (i + 1) / length)),
  };
}

/** The chart of a burn-down. @param {any} budget @param {{ width?: number, now?: number }} [options] */
export function burnDownChart(budget, { width, now } = {}) {
  const { labels, left, late, projected, even } = burnDown(budget, now);
  const { budgetId, remaining, currency } = budget;
  const limit = Number(budget.amount);
  return lines({
    labels,
    width,
    height: 190,
    title: `What is left of budget ${budgetId}: ${remaining} of ${budget.amount} ${currency}`,
    series: [
      { name: "even spending", color: 8, values: even, isDashed: true },
      { name: "left", color: 0, values: left, isFilled: true },
      ...(late ? [{ name: "left, with late costs to come", color: 0, values: late, isDashed: true }] : []),
      ...(projected ? [{ name: "projection", color: 1, values: projected, isDashed: true }] : []),
    ],
    lines: (budget.thresholds ?? []).map((/** @type {number} */ threshold) => ({
      value: limit * (1 - threshold / 100),
      label: `${threshold} %`,
      isMinor: threshold < 100,
    })),
  });
}

/** @param {any} budget @param {AbortSignal} signal */
function budget(budget, signal) {
  const { name, status, spent, currency, projectedSpend, projectedExhaustion, noForecast, timeZone } = budget;
  const { labels, left, late, projected, even } = burnDown(budget);
  const other = budget.otherBasis;
  const limit = [" of ", amount(budget.amount, currency), ` ${currency}, `, percent(budget.utilization)];
  return h(
    "article",
    { class: "budget" },
    h("h3", {}, name || budget.budgetId, " ", badge(status)),
    h("p", { class: "figure" }, amount(spent, currency), h("small", {}, limit)),
    chart({
      signal,
      count: labels.length,
      draw: (width) => burnDownChart(budget, { width }),
      tell: (at) =>
        tipOf(labels[at], [
          left[at] === null && late
            ? { name: "left, with late costs to come", color: 0, value: shortOr(late[at]) }
            : { name: "left", color: 0, value: shortOr(left[at]) },
          ...(projected ? [{ name: "projection", color: 1, value: shortOr(projected[at]) }] : []),
          { name: "even spending", color: 8, value: shortOr(even[at]) },
        ]),
    }),
    quiet(
      `${day(budget.startTime, timeZone)} to ${day(timeOf(budget.endTime) - 1, timeZone)} (${timeZone}). `,
      ...(projectedSpend === undefined
        ? [noForecast ? `No forecast: ${noForecast}. ` : "Too early for a forecast. "]
        : ["Forecast ", amount(projectedSpend, currency), ". "]),
      projectedExhaustion !== undefined &&
        `Nothing is left from ${dateTime(projectedExhaustion, timeZone)}. `,
      late &&
        `Costs are complete to ${day(timeOf(budget.dataEnd) - 1, timeZone)}; later ones may still come. `,
      budget.reached?.length > 0 && `Reached ${budget.reached.join(" %, ")} %. `,
      other &&
        `${money(other.total, other.currency)} ${other.currency} (${
          other.basis ?? "billed"
        }) are not counted. `,
    ),
  );
}

/** @param {Context} context */
async function anomalies(context) {
  const { state, rows, go } = context;
  const found = await rows("views/anomalies", { ...rangeParams(state), "group-by": state.more.series });
  if (found.length === 0) return empty("No anomalies in this range.");
  const chosen = Number(state.more.anomaly ?? 0);
  const newest = found.toReversed();
  const nameOf = (/** @type {any} */ { group }) =>
    Object.values(group).filter((value) => value !== null).join(", ") ||
    (Object.keys(group).length === 0 ? "(all)" : "(none)");
  const shown = newest[Math.min(chosen, newest.length - 1)];
  const showButton = (/** @type {any} */ row) =>
    button("Show", () => go({ more: { ...state.more, anomaly: String(newest.indexOf(row)) } }), {
      "aria-label": `Show the series of ${nameOf(row)}`,
      "aria-pressed": String(row === shown),
    });
  const acknowledgement = (/** @type {any} */ row) =>
    acknowledgedBy(row) ??
      button("Acknowledge", () => acknowledge(context, `anomalies/${encodeURIComponent(row.anomalyId)}`), {
        "aria-label": `Acknowledge ${nameOf(row)} of ${day(row.startTime, state.zone)}`,
      });
  return [
    await anomalySeries(context, shown, nameOf(shown)),
    table("Anomalies, the newest first", newest, [
      when("day", (row) => day(row.startTime, state.zone)),
      text("kind", ({ kind }) => kind),
      wide.text("severity", ({ severity }) => badge(severity)),
      text("group", nameOf),
      num("cost", (row) => [amount(row.amount, row.currency), ` ${nameOfMoney(row)}`]),
      num("expected", ({ expected }) => short(expected)),
      wide.num("deviation", ({ deviation }) => Number.isFinite(deviation) ? change(deviation, 0) : "new"),
      text(hidden("chart"), (row) => showButton(row)),
      text(hidden("acknowledgement"), acknowledgement),
    ]),
    isReadOnly() && howToAcknowledge("openfinops costs anomalies", "openfinops costs ack ID"),
  ];
}

/** The days around an anomaly. @param {Context} context @param {any} anomaly @param {string} name */
async function anomalySeries({ state, signal, rows: ask }, anomaly, name) {
  const at = timeOf(anomaly.startTime);
  const where = Object.entries(anomaly.group).map(([field, value]) =>
    condition(field, /** @type {string | null} */ (value))
  );
  const all = await ask("costs/aggregate", {
    since: day(at - 28 * DAY, state.zone),
    until: day(Math.min(at + 15 * DAY, Date.now() + DAY), state.zone),
    "time-zone": state.zone,
    bucket: "1d",
    where,
    "empty-buckets": "true",
  });
  const money = nameOfMoney(anomaly);
  const rows = all.filter((row) => nameOfMoney(row) === money);
  const labels = rows.map((row) => bucketLabel(timeOf(row.startTime), { bucket: "1d", zone: state.zone }));
  const index = rows.findIndex((row) => timeOf(row.startTime) === at);
  return chart({
    signal,
    count: rows.length,
    draw: (width) =>
      stackedBars({
        labels,
        width,
        height: 200,
        title: `Daily costs of ${name} in ${money}; ${day(at, state.zone)} is an anomaly`,
        series: [{ name, color: 0, values: rows.map(({ total }) => Number(total)) }],
        marks: index < 0 ? [] : [{ index, label: `${anomaly.kind}: ${anomaly.amount} ${anomaly.currency}` }],
      }),
    tell: (i) =>
      tipOf(`${day(rows[i].startTime, state.zone)} · ${name}`, [
        { name: money, color: 0, value: rows[i].total },
        ...(i === index ? [{ name: "expected", value: short(anomaly.expected) }] : []),
      ]),
  });
}

/** @param {Context} context */
async function alerts(context) {
  const { state } = context;
  const found = (await context.ask("views/clusters")).alerts;
  if (found.length === 0) return empty("No active alerts.", "openfinops alerts rules");
  const placeOf = (/** @type {any} */ { clusterId, nodeId, serviceName, deviceId }) =>
    [clusterId, nodeId, deviceId, serviceName].filter(Boolean).join(" / ");
  const acknowledgement = (/** @type {any} */ row) =>
    acknowledgedBy(row) ??
      button("Acknowledge", () => acknowledge(context, `alerts/${encodeURIComponent(row.alertId)}`));
  const list = table("Active alerts, the worst first", found, [
    text("severity", ({ severity }) => badge(severity)),
    text("alert", ({ description }) => description),
    text("of", placeOf),
    num("value", ({ field, value }) => `${field} ${value}`),
    wide.text("since", ({ since, firedAt }) => dateTime(since ?? firedAt, state.zone)),
    text(hidden("acknowledgement"), acknowledgement),
  ]);
  return [list, isReadOnly() && howToAcknowledge("openfinops alerts list", "openfinops alerts ack ID")];
}

/** Acknowledges an alert or an anomaly, and draws the page again. @param {Context} context @param {string} path */
async function acknowledge({ signal, refresh }, path) {
  try {
    await ask(`${path}/acknowledge`, {}, { method: "POST", signal });
    refresh();
  } catch (error) {
    const { status, message } = /** @type {import("./api.js").ApiError} */ (error);
    const reason = status === 404 ? "It is over." : message;
    const [kind, id] = path.split("/").map(decodeURIComponent);
    const command = kind === "alerts" ? "alerts" : "costs";
    alertUser(`${reason} On the command line: openfinops ${command} ack ${id}`);
  }
}

/** True if the server has no route that acknowledges. */
const isReadOnly = () => document.documentElement.dataset.readOnly !== undefined;

/** @param {string} list Command that lists ids. @param {string} acknowledge */
const howToAcknowledge = (list, acknowledge) =>
  quiet(
    "This dashboard only reads. ",
    code(list),
    " lists the ids; ",
    code(acknowledge),
    " acknowledges one.",
  );

/** Who has acknowledged it, or nothing where it cannot be done here. @param {any} note */
function acknowledgedBy({ acknowledgedAt, acknowledgedBy = "someone" }) {
  if (acknowledgedAt !== undefined) return `by ${acknowledgedBy}`;
  return isReadOnly() ? "" : undefined;
}

/** @param {string} text */
function alertUser(text) {
  const tip = /** @type {HTMLElement} */ (document.getElementById("notice"));
  tip.textContent = text;
  tip.hidden = false;
}
