import type { Backend } from "../backends/backend.ts";
import { ValidationError } from "../errors.ts";
import type { EventListener } from "../pipeline/events.ts";
import type { Budget, BudgetCrossing } from "../records/budget.ts";
import type { Decimal } from "../records/decimal.ts";
import { acceptTime } from "../records/validation.ts";
import { acceptBudget, type BudgetInput, type BudgetWindow, windowAt } from "./budget.ts";
import {
  type BudgetStatus,
  budgetStatus,
  isOf,
  type Spending,
  spendingOf,
  thresholdAmount,
} from "./budget_status.ts";
import { tellOfCrossing } from "./budget_watch.ts";
import { bodiesOf, BUDGET, CROSSING } from "./kinds.ts";

/** What changes of a budget; null takes a field back. */
export type BudgetChanges = {
  [Field in keyof Omit<BudgetInput, "budgetId">]?: BudgetInput[Field] | null;
};

/** Which budgets are asked for, and of when. */
export interface BudgetQuery {
  /** Only this one. */
  budgetId?: string;
  /**
   * Of which time: epoch milliseconds or a `Date`. Budgets that recur tell of the period that holds it.
   *
   * @default {now}
   */
  at?: number | Date;
}

/** What people do about budgets. */
export class Budgets {
  readonly #backend: Backend;
  readonly #emit: EventListener;
  readonly #onChange: () => void;

  /** Stores what people do; whoever watches is told of changes. */
  constructor(backend: Backend, { emit, onChange }: { emit: EventListener; onChange: () => void }) {
    this.#backend = backend;
    this.#emit = emit;
    this.#onChange = onChange;
  }

  async create(input: BudgetInput): Promise<Budget> {
    const budget = acceptBudget(input);
    const document = { kind: BUDGET, id: budget.budgetId, body: budget };
    if (!await this.#backend.documents.write(document, { ifAbsent: true })) {
      throw refusal(budget.budgetId, "new (there is one; updateBudget() changes it)");
    }
    this.#onChange();
    return budget;
  }

  async update(budgetId: string, changes: BudgetChanges): Promise<Budget> {
    const [stored] = await this.#budgets(budgetId);
    const budget = acceptBudget({ ...stored, ...changes as BudgetInput, budgetId });
    await this.#backend.documents.write({ kind: BUDGET, id: budgetId, body: budget });
    await this.#takeBack(budget);
    this.#onChange();
    return budget;
  }

  async delete(budgetId: string): Promise<boolean> {
    const wasThere = await this.#backend.documents.delete(BUDGET, budgetId);
    await this.#forget((crossing) => crossing.budgetId === budgetId);
    this.#onChange();
    return wasThere;
  }

  /** Also tells of thresholds that were crossed unseen, as by what another process has imported. */
  async status({ budgetId, at: given = Date.now() }: BudgetQuery = {}): Promise<BudgetStatus[]> {
    const at = acceptTime("a question about budgets", "at", given);
    const found: { budget: Budget; window: BudgetWindow; spending: Spending }[] = [];
    for (const budget of await this.#budgets(budgetId)) {
      const window = windowAt(budget, at);
      found.push({ budget, window, spending: await spendingOf(this.#backend, budget, window) });
    }
    let crossings = await this.#crossings();
    if (await this.#tell(found, crossings)) crossings = await this.#crossings();
    return found.map(({ budget, ...rest }) => budgetStatus(budget, { at, crossings, ...rest }));
  }

  async #budgets(budgetId?: string): Promise<Budget[]> {
    const all = await bodiesOf<Budget>(this.#backend.documents, BUDGET);
    if (budgetId === undefined) return all;
    const found = all.filter((budget) => budget.budgetId === budgetId);
    if (found.length > 0) return found;
    throw refusal(
      budgetId,
      `one of ${all.map((budget) => budget.budgetId).join(", ") || "none, as there are none"}`,
    );
  }

  /** Tells of what was crossed in periods that are not over; gives whether there was any such. */
  async #tell(
    found: readonly { budget: Budget; window: BudgetWindow; spending: Spending }[],
    crossings: readonly BudgetCrossing[],
  ): Promise<boolean> {
    let hasTold = false;
    for (const { budget, window, spending: { spent } } of found) {
      if (window.start > Date.now() || window.end <= Date.now()) continue;
      for (const threshold of reached(budget, spent)) {
        if (
          crossings.some((crossing) => isOf(crossing, budget, window) && crossing.threshold === threshold)
        ) continue;
        await tellOfCrossing(this.#backend, this.#emit, { budget, window, spent, threshold });
        hasTold = true;
      }
    }
    return hasTold;
  }

  #crossings(): Promise<BudgetCrossing[]> {
    return bodiesOf<BudgetCrossing>(this.#backend.documents, CROSSING);
  }

  /** What a changed budget has not reached by now can be crossed again. */
  async #takeBack(budget: Budget): Promise<void> {
    const window = windowAt(budget, Date.now());
    const still = reached(budget, (await spendingOf(this.#backend, budget, window)).spent);
    await this.#forget((crossing) => isOf(crossing, budget, window) && !still.includes(crossing.threshold));
  }

  async #forget(isUnwanted: (crossing: BudgetCrossing) => boolean): Promise<void> {
    const { documents } = this.#backend;
    for (const { id, body } of await documents.read(CROSSING)) {
      if (isUnwanted(body as BudgetCrossing)) await documents.delete(CROSSING, id);
    }
  }
}

/** The thresholds of a budget that an amount reaches. */
function reached(budget: Budget, spent: Decimal): number[] {
  return budget.thresholds.filter((threshold) => spent.compare(thresholdAmount(budget, threshold)) >= 0);
}

function refusal(budgetId: string, wanted: string): ValidationError {
  return new ValidationError({ subject: "a budget", field: "budgetId", value: budgetId, wanted });
}
