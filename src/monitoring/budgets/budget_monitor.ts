import type { Backend } from "../../backends/backend.ts";
import type { EventListener } from "../../pipeline/events.ts";
import type { GroupKey } from "../../records/aggregation.ts";
import type { Budget, BudgetCrossing } from "../../records/budget.ts";
import type { CostEntry } from "../../records/cost_entry.ts";
import { Decimal } from "../../records/decimal.ts";
import { type BudgetWindow, windowAt } from "./budget.ts";
import { crossingId, thresholdAmount } from "./budget_status.ts";
import { fieldsOf, keyOfCost, keysOf, readSpendings } from "./spending.ts";
import { bodiesOf, BUDGET, CROSSING } from "../document_kinds.ts";

/** A budget, and what is spent in its present window. */
interface BudgetSpend {
  readonly budget: Budget;
  readonly window: BudgetWindow;
  spent: Decimal;
  /** Unreported thresholds, ascending, with their amounts. */
  readonly open: { readonly threshold: number; readonly amount: Decimal }[];
}

/** Budgets that filter by the same fields, by the values for which they count. */
interface BudgetGroup {
  readonly fields: readonly GroupKey[];
  readonly byKey: ReadonlyMap<string, readonly BudgetSpend[]>;
}

/** Counts what is spent on each budget as costs are committed, and tells once of each threshold that is crossed. */
export class BudgetMonitor {
  readonly #backend: Backend;
  readonly #emit: EventListener;
  #watched: BudgetSpend[] = [];
  #groups: readonly BudgetGroup[] = [];

  /** Makes a watch that knows of no budgets yet. */
  constructor(backend: Backend, emit: EventListener) {
    this.#backend = backend;
    this.#emit = emit;
  }

  /** Counts committed costs that were not counted before. */
  count(entries: readonly CostEntry[]): void {
    for (const entry of entries) {
      let amount: Decimal | undefined;
      for (const { fields, byKey } of this.#groups) {
        const key = keyOfCost(entry, fields);
        for (const watched of key === undefined ? [] : byKey.get(key) ?? []) {
          const { budget, window: { start, end } } = watched;
          if (entry.currency !== budget.currency || entry.timestamp < start || entry.timestamp >= end) {
            continue;
          }
          amount ??= Decimal.from(entry.amount);
          watched.spent = watched.spent.plus(amount);
        }
      }
    }
  }

  /** Returns true if a budget has begun a new period. */
  get isOver(): boolean {
    return this.#watched.some(({ window }) => Date.now() >= window.end);
  }

  /** Takes the budgets, and what is spent on them, from the backend. Meanwhile nothing may be committed. */
  async refresh(): Promise<void> {
    const now = Date.now();
    const watched: BudgetSpend[] = [];
    const { documents } = this.#backend;
    // As they are stored: a budget that was changed, here or elsewhere, takes back those that it does not reach.
    const reported = new Set((await documents.read(CROSSING)).map(({ id }) => id));
    const periods = (await bodiesOf<Budget>(documents, BUDGET))
      .map((budget) => ({ budget, window: windowAt(budget, now) }))
      .filter(({ window }) => window.end > now); // the others are over for good
    const spendings = await readSpendings(this.#backend, periods);
    for (const [i, { budget, window }] of periods.entries()) {
      const open = budget.thresholds.filter((threshold) =>
        !reported.has(crossingId(budget, window, threshold))
      )
        .map((threshold) => ({ threshold, amount: thresholdAmount(budget, threshold) }));
      watched.push({ budget, window, spent: spendings[i].spent, open });
    }
    this.#watched = watched;
    this.#groups = groupsOf(watched);
  }

  /** Tells of the thresholds that were crossed. Where that cannot be stored, it is told the next time. */
  async report(): Promise<void> {
    for (const { budget, window, spent, open } of this.#watched) {
      while (open.length > 0 && spent.compare(open[0].amount) >= 0) {
        const { threshold } = open[0];
        await reportCrossing(this.#backend, this.#emit, { budget, window, spent, threshold });
        open.shift();
      }
    }
  }
}

/** Groups budgets so that a cost is looked up once for all budgets that filter by the same fields. */
function groupsOf(watched: readonly BudgetSpend[]): BudgetGroup[] {
  const byFields = Map.groupBy(watched, ({ budget }) => JSON.stringify(fieldsOf(budget)));
  return [...byFields.values()].map((group) => {
    const fields = fieldsOf(group[0].budget);
    const pairs = group.flatMap((one) => keysOf(one.budget, fields).map((key) => ({ key, one })));
    const byKey = new Map(
      [...Map.groupBy(pairs, ({ key }) => key)].map(([key, found]) => [key, found.map(({ one }) => one)]),
    );
    return { fields, byKey };
  });
}

/** Tells that a threshold was crossed, unless this or another process has. */
export async function reportCrossing(
  { documents }: Backend,
  emit: EventListener,
  { budget, window, spent, threshold }: {
    budget: Budget;
    window: BudgetWindow;
    spent: Decimal;
    threshold: number;
  },
): Promise<void> {
  const crossing: BudgetCrossing = {
    budgetId: budget.budgetId,
    startTime: window.start,
    threshold,
    at: Date.now(),
    spent: spent.toString(),
  };
  const document = { kind: CROSSING, id: crossingId(budget, window, threshold), body: crossing };
  if (!await documents.write(document, { ifAbsent: true })) return;
  const { name, amount, currency } = budget;
  emit({
    type: "budget-threshold",
    dataset: "cost_entries",
    message: `Budget ${name} has reached ${threshold} %: ${spent} of ${amount} ${currency} are spent`,
    budget,
    crossing,
  });
}
