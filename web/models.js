// @ts-check
/** Language models: tokens, requests, latency, cost of a million tokens, and models without a price. */
import { stackedBars } from "./charts.js";
import { bucketLabel, count, day, milliseconds, NONE, short, timeOf } from "./format.js";
import { linesOf } from "./series.js";
import { bucketOfRange, rangeParams } from "./state.js";
import { h } from "./tree.js";
import {
  big,
  button,
  card,
  cards,
  chart,
  chips,
  code,
  empty,
  field,
  link,
  num,
  or,
  panel,
  priced,
  quiet,
  saveCsv,
  swatch,
  table,
  text,
  tipOf,
  wide,
} from "./ui.js";

/** @import { Context, Links, Page } from "./main.js" */

/** @type {Page} */
export const modelsPage = {
  name: "models",
  title: "Models",
  filters: ["range", "zone"],
  tools: ({ state: { more }, go }) => {
    const onchange = (/** @type {any} */ { target }) =>
      go({ more: { ...more, tag: target.value.trim(), value: "" } });
    const names = ["provider", "model", "value"].filter((name) => more[name]);
    const shown = names.map((name) => `${name === "value" ? more.tag ?? "team" : name}=${more[name]}`);
    return [
      field("Tag of teams", { id: "tag", value: more.tag ?? "team", onchange }),
      chips(shown, (i) => go({ more: { ...more, [names[i]]: "" } })),
    ];
  },
  show,
};

/** @param {Context} context */
function show(context) {
  const { state } = context;
  const { tag, provider, model, value } = state.more;
  const by = tag || "team";
  const params = { ...rangeParams(state), by, provider, model, value };
  const read = context.once(() => context.ask("views/models", params));
  const saveButton = button("Save CSV", async () => save(context, await read()));
  return [
    panel(context, { kind: "plain" }, async () => totals(await read())),
    panel(context, { title: "Tokens over time" }, () => tokens(context)),
    panel(context, { title: "Models", tools: saveButton }, async () => models(context, await read())),
    panel(context, { title: `By ${by}` }, async () => tags(context, await read())),
    panel(context, { title: "Own GPUs beside vendors" }, async () => own(context, await read())),
    panel(context, { title: "Models without a price" }, async () => unpriced(await read())),
  ];
}

/** @param {any} view */
export function totals({ models }) {
  if (models.length === 0) {
    return empty("No usage in this range.", "openfinops database import usage FILE --format litellm");
  }
  const add = (/** @type {string} */ field) =>
    models.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + (each[field] ?? 0), 0);
  return cards(
    card("Requests", big(add("requests"))),
    card("Tokens", big(add("tokens")), `${short(add("inputTokens"))} in, ${short(add("outputTokens"))} out`),
    card("Read from cache", big(add("cacheReadTokens")), "tokens, part of the input"),
    card("Models", count(models.length)),
  );
}

/** Series of tokens by model from rows of an aggregate. @param {any[]} rows */
export function tokenSeries(rows) {
  const { times, lines } = linesOf(rows, {
    time: (row) => timeOf(row.startTime),
    nameOf: (row) => row.isOther ? "(other)" : row.group.model ?? NONE,
    valueOf: ({ fields }) => (fields.inputTokens?.sum ?? 0) + (fields.outputTokens?.sum ?? 0),
  });
  const drawn = lines.toSorted((a, b) => sum(b.values) - sum(a.values)).map((line, color) => ({
    ...line,
    color: line.name === "(other)" ? 8 : color % 8,
  }));
  return { times, drawn };
}

/** @param {Context} context */
async function tokens({ state, signal, rows: ask }) {
  const bucket = bucketOfRange(state.range);
  const { tag = "team", provider, model, value } = state.more;
  const where = [
    provider && `provider=${JSON.stringify(provider)}`,
    model && `model=${JSON.stringify(model)}`,
    value && `tags.${tag}=${JSON.stringify(value)}`,
  ].filter(Boolean);
  const rows = await ask("usage/aggregate", {
    ...rangeParams(state),
    where: /** @type {string[]} */ (where),
    "group-by": "model",
    bucket,
    measure: "inputTokens.sum,outputTokens.sum",
    top: 8,
    "empty-buckets": "true",
  });
  if (rows.length === 0) return empty("Nothing to draw.");
  const { times, drawn } = tokenSeries(rows);
  return chart({
    signal,
    count: times.length,
    draw: (width) =>
      stackedBars({
        labels: times.map((time) => bucketLabel(time, { bucket, zone: state.zone })),
        series: drawn,
        width,
        title: "Tokens by model over time. The table below has the totals.",
      }),
    tell: (at) =>
      tipOf(
        `${day(times[at], state.zone)} · ${count(sum(drawn.map(({ values }) => values[at])))} tokens`,
        drawn.filter(({ values }) => values[at])
          .map(({ name, color, values }) => ({ name, color, value: count(values[at] ?? 0) })),
      ),
  });
}

/** @param {(number | null)[]} values */
function sum(values) {
  return values.reduce((/** @type {number} */ total, value) => total + (value ?? 0), 0);
}

/** @typedef {{ cost: string, costPerMillionTokens?: string, currency: string }} Cost */

/** Columns of usage. */
const USAGE = [
  num("requests", ({ requests }) => count(requests)),
  num("tokens", ({ tokens }) => big(tokens)),
  wide.num("median", ({ durationP50 }) => or(durationP50, milliseconds)),
  wide.num("p95", ({ durationP95 }) => or(durationP95, milliseconds)),
  wide.num("first token", ({ firstTokenP50 }) => or(firstTokenP50, milliseconds)),
  num("cost", ({ costs }) => each(costs, ({ cost, currency }) => priced(cost, currency))),
  num("per 1M tokens", ({ costs }) => each(costs, perMillion)),
];

/** @param {Cost[]} costs @param {(cost: Cost) => any} show */
const each = (costs, show) => costs.length === 0 ? "–" : costs.map(show);
/** @param {Cost} cost */
const perMillion = ({ costPerMillionTokens, currency }) =>
  or(costPerMillionTokens, (each) => priced(each, currency));

/** @param {Links} context @param {any} view */
export function models({ state, to }, { models }) {
  if (models.length === 0) return empty("No models.");
  /** @param {string} name @param {string | null} value */
  const filter = (name, value) =>
    value === null ? NONE : link(to({ more: { ...state.more, [name]: value } }), value);
  return table("Models, that with the most tokens first", models, [
    text("model", (row) => [swatch(Math.min(8, models.indexOf(row))), filter("model", row.model)]),
    text("provider", ({ provider }) => filter("provider", provider)),
    ...USAGE,
  ]);
}

/** @param {Links} context */
export function tags(context, /** @type {any} */ { tags, by }) {
  if (tags.length === 0) return empty("No usage.");
  const { state, to } = context;
  return table(`Usage by ${by}`, tags, [
    text(by, ({ value }) => value === null ? NONE : link(to({ more: { ...state.more, value } }), value)),
    ...USAGE,
  ]);
}

/** @param {Context} context @param {any} view */
async function own({ state, ask }, view) {
  return ownTable(view, await ask("views/allocation", { ...rangeParams(state), by: "model" }));
}

/** Cost of a million tokens of own GPUs beside vendors, the cheapest first. @param {any} view @param {any} allocation */
export function ownTable(view, { rows, unallocated }) {
  if (rows.length === 0) {
    return empty(
      "No costs of nodes with GPU metrics in this range. Devices need the label “model”.",
      "openfinops costs allocate --by model --since 30d",
    );
  }
  /** @type {any[]} */
  const models = view.models;
  const vendors = models.flatMap(({ costs, model, provider, tokens }) =>
    costs.map((/** @type {Cost} */ cost) => ({ ...cost, tokens, group: model, by: provider }))
  );
  const price = (/** @type {any} */ { costPerMillionTokens = Infinity }) => Number(costPerMillionTokens);
  const all = [...vendors, ...rows.map((/** @type {any} */ row) => ({ ...row, by: "own GPUs" }))];
  return [
    table("Own GPUs beside vendors", all.toSorted((a, b) => price(a) - price(b) || 0), [
      text("model", ({ group, isIdle }) => isIdle ? "(idle)" : group ?? NONE),
      text("run by", ({ by }) => by ?? NONE),
      num("tokens", ({ tokens }) => or(tokens, big)),
      num("cost", ({ cost, currency }) => priced(cost, currency)),
      num("per 1M tokens", perMillion),
    ]),
    Object.entries(unallocated ?? {}).map(([currency, cost]) =>
      quiet("Not divided: ", priced(String(cost), currency), "of resources without GPU metrics.")
    ),
  ];
}

/** @param {any} view */
export function unpriced({ unpriced, models }) {
  if (models.length === 0) return empty("No usage.");
  if (unpriced.length === 0) return h("p", {}, "Every model has a price.");
  return [
    table("Units without a price", unpriced, [
      text("model", ({ model }) => model ?? NONE),
      text("provider", ({ provider }) => provider ?? NONE),
      text("unit", ({ unit }) => unit),
      num("quantity", ({ quantity }) => count(Number(quantity))),
      wide.num("records", ({ records }) => count(records)),
    ]),
    quiet(
      "No total has their cost. Set a price: ",
      code("openfinops prices set"),
      ", then ",
      code("openfinops costs price"),
    ),
  ];
}

/** @param {Context} context */
function save({ state }, /** @type {any} */ { models }) {
  const header = "provider,model,requests,tokens,durationP50,durationP95,currency,cost,costPerMillionTokens";
  /** @type {any[]} */
  const all = models;
  const rows = all.flatMap(({ costs, ...row }) =>
    (costs.length > 0 ? costs : [{}]).map((/** @type {any} */ cost) => ({ ...row, ...cost }))
  );
  saveCsv(`models-${state.range}.csv`, header.split(","), rows);
}
