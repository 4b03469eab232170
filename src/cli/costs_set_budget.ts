import { describe } from "../errors.ts";
import { acceptBudget, type BudgetInput } from "../monitoring/budgets/budget.ts";
import { Budgets } from "../monitoring/budgets/budgets.ts";
import { unmatchedFilters } from "../monitoring/budgets/filters.ts";
import { bodiesOf, BUDGET } from "../monitoring/document_kinds.ts";
import { suggest } from "../nearest.ts";
import { DATASETS } from "../records/datasets.ts";
import type { Budget } from "../records/budget.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, CONNECTION_OPTIONS, readZone, withBackend } from "./command.ts";
import { note } from "./output.ts";
import {
  conflict,
  invalidValue,
  readBound,
  readPairs,
  readTime,
  UsageError,
} from "../query/option_values.ts";
import { readWhere, WHERE_OPTION } from "../query/where.ts";

export const costsSetBudget: Command = {
  name: "costs set-budget",
  positionals: "<budget-id>",
  missing: "Name a budget by its id.",
  options: [
    ...CONNECTION_OPTIONS,
    ...optionsOf({
      "amount N": "limit for each period",
      "currency C": "currency (default USD)",
      "name TEXT": "display name (default: the id)",
      "period SPAN": "1d, 1w, 1mo, 3mo, 1y (default 1mo, or none with --since and --until)",
      "time-zone ZONE": "time zone of periods and dates (default OPENFINOPS_TIME_ZONE, else UTC)",
      "since TIME": "count costs from this time",
      "until TIME": "count costs before this time",
      "category NAME ...": "only costs of this category; repeatable",
      "resource-id ID": "only costs of this resource",
      "region NAME": "only costs of this region",
      "tag KEY=VALUE ...": "only costs with this tag; repeatable",
      "threshold PERCENT ...": "alert at these percentages: 80,100 (default 50,80,100)",
    }),
    { ...WHERE_OPTION, summary: `only costs for which this holds: ${"'"}serviceName=EC2${"'"}; repeatable` },
    ...optionsOf({
      "basis billed|estimated":
        "costs that count (default billed; estimated in a period without billed costs)",
      delete: "delete the budget, not its costs",
    }),
  ],
  examples: [
    "openfinops costs set-budget nlp --amount 2500 --tag team=nlp",
    "openfinops costs set-budget gpus --amount 800 --currency EUR --category gpu --period 1w --threshold 90",
    "openfinops costs set-budget nlp --delete",
  ],
  async run(given) {
    const [budgetId] = given.positionals;
    const changes = readChanges(given, budgetId);
    const isDeleted = given.has("delete");
    if (isDeleted && Object.keys(changes).length > 0) {
      throw conflict("--delete cannot be combined with other options of the budget.");
    }
    await withBackend(
      given,
      isDeleted || changes.amount === undefined ? "existing" : "create",
      async (backend) => {
        const budgets = new Budgets(backend, {
          emit: () => {},
          onChange: () => {},
          timeZone: readZone(given),
        });
        if (isDeleted) {
          if (!await budgets.delete(budgetId)) {
            throw new UsageError(
              `There is no budget ${describe(budgetId)}. \`openfinops costs budgets\` lists them.`,
              "NOT_FOUND",
            );
          }
          return note(`Deleted: ${budgetId}.`);
        }
        const stored = await bodiesOf<Budget>(backend.documents, BUDGET);
        const isNew = !stored.some((budget) => budget.budgetId === budgetId);
        const budget = isNew
          ? await budgets.create({ budgetId, ...changes } as BudgetInput)
          : await budgets.update(budgetId, changes);
        note(`${isNew ? "Created" : "Changed"}: ${describeBudget(budget)}.`);
        for (const { name, value, known } of await unmatchedFilters(backend, budget)) {
          note(`No cost has ${name} ${describe(value)} yet.${suggest(value, known)}`);
        }
      },
    );
  },
};

function readChanges(given: Arguments, budgetId: string): Partial<BudgetInput> {
  const since = given.text("since");
  const until = given.text("until");
  // In the time zone of the budget, which may be a stored one.
  if (since !== undefined) readBound("since", since, readZone(given));
  if (until !== undefined) readTime("until", until, readZone(given));
  const list = (name: string) => given.texts(name).length === 0 ? undefined : [...given.texts(name)];
  const changes = {
    amount: given.text("amount"),
    currency: given.text("currency"),
    name: given.text("name"),
    period: given.text("period"),
    timeZone: given.has("time-zone") ? readZone(given) : undefined,
    startTime: since,
    endTime: until,
    categories: list("category"),
    resourceId: given.text("resource-id"),
    region: given.text("region"),
    tags: readPairs(given, "tag"),
    where: given.has("where")
      ? readWhere(given, { dataset: DATASETS.cost_entries, timeZone: readZone(given) })
      : undefined,
    basis: given.text("basis"),
    thresholds: list("threshold")?.flatMap((text) => text.split(",").map(readPercent)),
  };
  const set = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  acceptBudget({ amount: "1", timeZone: readZone(given), ...set, budgetId }); // before a database is opened
  return set;
}

function readPercent(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text) && Number(text) > 0) return Number(text);
  throw invalidValue("threshold", "a percentage above 0, or several such as 50,80,100", text);
}

function describeBudget(
  { budgetId, amount, currency, period, categories, resourceId, region, tags, where, basis }: Budget,
): string {
  const of = [
    ...categories ?? [],
    ...resourceId === undefined ? [] : [resourceId],
    ...region === undefined ? [] : [region],
    ...Object.entries(tags ?? {}).map(([key, value]) => `${key}=${value}`),
    ...(where ?? []).map(({ field }) => `conditions on ${field}`),
    ...basis === undefined ? [] : [`${basis} costs only`],
  ];
  return `${budgetId}, ${amount} ${currency}${period === undefined ? "" : ` per ${period}`}` +
    (of.length === 0 ? ", for all costs" : `, for ${of.join(", ")}`);
}
