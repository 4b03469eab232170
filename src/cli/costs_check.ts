import { optionsOf } from "../query/arguments.ts";
import { budgetStatuses } from "../monitoring/budgets/budgets.ts";
import { Decimal } from "../records/decimal.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import {
  type Command,
  FORMAT_OPTIONS,
  readFormat,
  SOURCE_OPTIONS,
  TIME_ZONE_OPTION,
  withBackend,
} from "./command.ts";
import { missing, readAmount } from "../query/option_values.ts";
import { formatTable, print, printFound, showMoney } from "./output.ts";
import { readAt } from "../query/selection.ts";

const HEADER = ["budgetId", "fits", "currency", "amount", "spent", "requested", "remaining"] as const;
const MONEY: ReadonlySet<string> = new Set(["amount", "spent", "requested", "remaining"]);

export const costsCheck: Command = {
  name: "costs check",
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    ...optionsOf({
      "budget ID": "the budget (required)",
      "amount N": "planned spending, in the currency of the budget (required)",
      "at TIME": "time of the spending, which decides the period (default now)",
    }),
    TIME_ZONE_OPTION,
  ],
  examples: ["openfinops costs check --budget nlp --amount 120 && ./train.sh"],
  async run(given) {
    const format = readFormat(given);
    const [budgetId, requested] = ["budget", "amount"].map((name) => given.text(name));
    if (budgetId === undefined || requested === undefined) {
      throw missing("Pass --budget with its id and --amount with the planned spending.");
    }
    const planned = readAmount("amount", requested);
    const query = { budgetId, ...readAt(given) };
    const [budget] = await withBackend(given, "read", (backend) => budgetStatuses(backend, query));
    const { currency, amount, spent } = budget;
    const remaining = Decimal.from(budget.remaining).minus(planned);
    const fits = remaining.compare(Decimal.ZERO) >= 0;
    const found = {
      budgetId,
      fits,
      currency,
      amount,
      spent,
      requested: planned.toString(),
      remaining: remaining.toString(),
    };
    const shown = HEADER.map((field) => {
      const value = String(found[field]);
      return MONEY.has(field) ? showMoney(value, currency) : value;
    });
    printFound(format, found, {
      table: () => print(formatTable(["budget", ...HEADER.slice(1)], [shown])),
      header: HEADER,
      rows: [found],
    });
    if (fits) return;
    throw new TransferError(
      `Budget ${budgetId} does not allow ${planned} ${currency} more: ${spent} of ${amount} ${currency} are spent.`,
      { code: "BUDGET_EXCEEDED" },
    );
  },
};
