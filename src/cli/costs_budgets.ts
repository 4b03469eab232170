import { optionsOf } from "../query/arguments.ts";
import type { BudgetStatus } from "../monitoring/budgets/budget_status.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import { budgetsView } from "../views/budgets.ts";
import { type Command, FORMAT_OPTIONS, readFormat, SOURCE_OPTIONS, withBackend } from "./command.ts";
import { formatTable, note, print, printFound, showMoney } from "./output.ts";
import { readName } from "../query/option_values.ts";
import { bucketLabel } from "../records/periods.ts";
import { asCalled } from "./program_name.ts";
import { BUDGET_OPTIONS, readBudgets } from "../query/view_options.ts";

export const costsBudgets: Command = {
  name: "costs budgets",
  positionals: "[budget-id]",
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    ...BUDGET_OPTIONS,
    ...optionsOf({
      "fail-on over|warning": "exit with 3 if a budget is over its limit, or from 80 % of it (default over)",
    }),
  ],
  examples: [
    "openfinops costs budgets",
    "openfinops costs budgets nlp --at 2026-01-31 --format json",
    "openfinops costs budgets --fail-on warning",
  ],
  async run(given) {
    const format = readFormat(given);
    const failOn = readName("value", given.text("fail-on") ?? "over", ["over", "warning"]);
    const [budgetId] = given.positionals;
    const query = readBudgets(given, budgetId);
    const { budgets: found } = await withBackend(given, "read", (backend) => budgetsView(backend, query));
    const table = () => found.length > 0 && printTable(found);
    const none = asCalled("No budgets. `openfinops costs set-budget` creates one.");
    printFound(format, found, { table, header: HEADER, rows: found.map(rowOf), none });
    const failed = found.filter(({ status }) =>
      failOn === "over" ? status === "over_budget" : status !== "under_budget"
    );
    if (failed.length === 0) return;
    const names = failed.map(({ budgetId, spent, amount, currency }) =>
      `${budgetId} (${spent} of ${amount} ${currency})`
    );
    const what = failOn === "over" ? "over the limit" : "at 80 % of the limit or more";
    throw new TransferError(`${names.length === 1 ? "Budget" : "Budgets"} ${what}: ${names.join(", ")}.`, {
      code: "BUDGET_EXCEEDED",
    });
  },
};

const HEADER = [
  "budgetId",
  "status",
  "amount",
  "spent",
  "remaining",
  "currency",
  "basis",
  "entries",
  "startTime",
  "endTime",
  "burnRatePerDay",
  "projectedSpend",
  "projectedExhaustion",
  "noForecast",
  "crossed",
  "reached",
  "reported",
];

function rowOf(budget: BudgetStatus): object {
  const { crossed, reached, reported } = budget;
  return {
    ...budget,
    crossed: crossed.map(({ threshold }) => threshold).join(" "),
    reached: reached.join(" "),
    reported: reported.join(" "),
  };
}

function printTable(found: readonly BudgetStatus[]): void {
  const header = ["budget", "status", "spent", "limit", "", "%", "remaining", "per day", "forecast", "to"];
  print(formatTable(
    header,
    found.map((budget) => {
      const { budgetId, status, spent, amount, currency, utilization, remaining, burnRatePerDay } = budget;
      return [
        budgetId,
        status.replaceAll("_", " "),
        showMoney(spent, currency),
        `${showMoney(amount, currency)} ${currency}`,
        { bar: utilization },
        utilization.toFixed(1),
        showMoney(remaining, currency),
        showMoney(burnRatePerDay, currency),
        budget.projectedSpend === undefined ? "–" : showMoney(budget.projectedSpend, currency),
        bucketLabel({ count: 1, unit: "d" }, budget.endTime - 1, budget.timeZone),
      ];
    }),
  ));
  for (const { budgetId, basis, otherCurrencies, otherBasis, reached, reported, noForecast } of found) {
    if (noForecast !== undefined) note(`${budgetId}: no forecast: ${noForecast}.`);
    const fallen = reported.filter((threshold) => !reached.includes(threshold));
    if (fallen.length > 0) {
      note(`${budgetId}: ${fallen.join(" %, ")} % was reported; spending is below that now.`);
    }
    for (const { currency, total } of otherCurrencies) {
      note(
        `${budgetId}: ${
          showMoney(total, currency)
        } ${currency} are not counted: the budget is in another currency.`,
      );
    }
    if (otherBasis === undefined) continue;
    const { total, currency, basis: other = "billed" } = otherBasis;
    note(`${budgetId}: ${total} ${currency} (${other}) are not counted: ${basis} costs are.`);
  }
}
