import { isDeepStrictEqual } from "node:util";
import type { Backend } from "../../backends/backend.ts";
import { type ErrorCode, ValidationError } from "../../errors.ts";
import { nearest } from "../../nearest.ts";
import type { EventListener } from "../../pipeline/events.ts";
import type { Budget, BudgetCrossing } from "../../records/budget.ts";
import type { Decimal } from "../../records/decimal.ts";
import { acceptTimeText, acceptTimeZone } from "../../records/validation.ts";
import { acceptBudget, type BudgetInput, type BudgetWindow, windowAt } from "./budget.ts";
import { type BudgetStatus, budgetStatus, isCrossingOf, thresholdAmount } from "./budget_status.ts";
import { readSpending, readSpendings, type Spending } from "./spending.ts";
import { isAnything, isText, takeFields } from "../field_checks.ts";
import { reportCrossing } from "./budget_monitor.ts";
import { bodiesOf, BUDGET, CROSSING } from "../document_kinds.ts";

/** Changes to a budget; null removes a field. */
export type BudgetChanges = {
  [Field in keyof Omit<BudgetInput, "budgetId">]?: BudgetInput[Field] | null;
};

/** Budgets to report, and the time. */
export interface BudgetQuery {
  /** Only this one. */
  budgetId?: string;
  /**
   * In which period: that which holds this time, epoch milliseconds, a `Date` or a text. It is told how the budget stands now, or at
   * the end of a period that is over.
   *
   * @default {now}
   */
  at?: number | Date | string;
  /**
   * The time zone in which a text is read.
   *
   * @default {the timeZone of the configuration}
   */
  timeZone?: string;
}

/** The surroundings of {@linkcode Budgets}. */
export interface BudgetsOptions {
  /** Reports thresholds that are crossed. */
  readonly emit: EventListener;
  /** Called when a budget was created, changed or deleted. */
  readonly onChange: () => void;
  /**
   * True once events are not reported any more: a threshold must not count as reported then.
   *
   * @default {() => false}
   */
  readonly isClosed?: () => boolean;
  /**
   * The time zone of budgets that name none.
   *
   * @default {"UTC"}
   */
  readonly timeZone?: string;
}

/** Operations on budgets. */
export class Budgets {
  readonly #backend: Backend;
  readonly #emit: EventListener;
  readonly #onChange: () => void;
  readonly #isClosed: () => boolean;
  readonly #timeZone: string;

  /** Stores changes and notifies the monitor. */
  constructor(
    backend: Backend,
    { emit, onChange, isClosed = () => false, timeZone = "UTC" }: BudgetsOptions,
  ) {
    this.#backend = backend;
    this.#emit = emit;
    this.#onChange = onChange;
    this.#isClosed = isClosed;
    this.#timeZone = timeZone;
  }

  async create(input: BudgetInput): Promise<Budget> {
    const budget = acceptBudget(input, this.#timeZone);
    const document = { kind: BUDGET, id: budget.budgetId, body: budget };
    if (!await this.#backend.documents.write(document, { ifAbsent: true })) {
      // A program that makes its budgets whenever it starts finds them as it has made them.
      const [stored] = await storedBudgets(this.#backend, budget.budgetId);
      if (isDeepStrictEqual(stored, budget)) return budget;
      throw refusal(
        budget.budgetId,
        "new (there is another of this id; updateBudget() changes it)",
        "ALREADY_EXISTS",
      );
    }
    this.#onChange();
    return budget;
  }

  async update(budgetId: string, changes: BudgetChanges): Promise<Budget> {
    const [stored] = await storedBudgets(this.#backend, budgetId);
    const budget = acceptBudget({ ...stored, ...changes as Partial<BudgetInput> }, this.#timeZone);
    if (budget.budgetId !== budgetId) {
      throw refusal(budget.budgetId, `absent, or ${budgetId} as it is`, "INVALID_FIELD");
    }
    await this.#backend.documents.write({ kind: BUDGET, id: budgetId, body: budget });
    try {
      await this.#resetCrossings(budget);
    } finally {
      this.#onChange();
    }
    return budget;
  }

  async delete(budgetId: string): Promise<boolean> {
    const wasThere = await this.#backend.documents.delete(BUDGET, budgetId);
    this.#onChange();
    await this.#deleteCrossings((crossing) => crossing.budgetId === budgetId);
    return wasThere;
  }

  /** Also tells of thresholds that were crossed unseen, as by what another process has imported. */
  async status(query?: BudgetQuery): Promise<BudgetStatus[]> {
    const found = await readBudgetSpendings(this.#backend, { timeZone: this.#timeZone, ...query });
    // A user who may only read gets the status all the same.
    if (!this.#isClosed()) await this.#reportCrossings(found).catch(() => {});
    return await reportOf(this.#backend, found);
  }

  /** Reports thresholds that are crossed in periods that are not over. */
  async #reportCrossings(found: readonly BudgetSpending[]): Promise<void> {
    const crossings = await crossingsByBudget(this.#backend);
    for (const { budget, window, spending: { spent } } of found) {
      if (window.start > Date.now() || window.end <= Date.now()) continue;
      const reported = (crossings.get(budget.budgetId) ?? []).filter((crossing) =>
        isCrossingOf(crossing, budget, window)
      )
        .map((crossing) => crossing.threshold);
      for (const threshold of reachedThresholds(budget, spent)) {
        if (reported.includes(threshold)) continue;
        await reportCrossing(this.#backend, this.#emit, { budget, window, spent, threshold });
      }
    }
  }

  /** Resets thresholds that a changed budget has not reached. */
  async #resetCrossings(budget: Budget): Promise<void> {
    const window = windowAt(budget, Date.now());
    const reachedNow = reachedThresholds(
      budget,
      (await readSpending(this.#backend, { budget, window })).spent,
    );
    await this.#deleteCrossings((crossing) =>
      isCrossingOf(crossing, budget, window) && !reachedNow.includes(crossing.threshold)
    );
  }

  async #deleteCrossings(isObsolete: (crossing: BudgetCrossing) => boolean): Promise<void> {
    const { documents } = this.#backend;
    for (const { id, body } of await documents.read(CROSSING)) {
      if (isObsolete(body as BudgetCrossing)) await documents.delete(CROSSING, id);
    }
  }
}

/** Returns the status of budgets without reporting thresholds. */
export async function budgetStatuses(backend: Backend, query?: BudgetQuery): Promise<BudgetStatus[]> {
  return await reportOf(backend, await readBudgetSpendings(backend, query));
}

/** A budget, and what is spent in a window of it. */
interface BudgetSpending {
  readonly budget: Budget;
  readonly window: BudgetWindow;
  readonly spending: Spending;
}

async function readBudgetSpendings(
  backend: Backend,
  query: BudgetQuery = {},
): Promise<BudgetSpending[]> {
  const subject = "a query of budgets";
  const given = takeFields(subject, query, {
    fields: { budgetId: isText, at: isAnything, timeZone: isAnything },
  });
  const zone = acceptTimeZone(subject, given.timeZone);
  const at = acceptTimeText(subject, "at", given.at ?? Date.now(), zone);
  const budgets = await storedBudgets(backend, given.budgetId as string | undefined);
  const periods = budgets.map((budget) => ({ budget, window: windowAt(budget, at) }));
  const spendings = await readSpendings(backend, periods);
  return periods.map((period, i) => ({ ...period, spending: spendings[i] }));
}

async function reportOf(backend: Backend, found: readonly BudgetSpending[]): Promise<BudgetStatus[]> {
  const crossings = await crossingsByBudget(backend);
  return found.map(({ budget, ...rest }) =>
    budgetStatus(budget, { ...rest, crossings: crossings.get(budget.budgetId) ?? [] })
  );
}

async function storedBudgets({ documents }: Backend, budgetId?: string): Promise<Budget[]> {
  const all = await bodiesOf<Budget>(documents, BUDGET);
  if (budgetId === undefined) return all;
  const found = all.filter((budget) => budget.budgetId === budgetId);
  if (found.length > 0) return found;
  const ids = all.map((budget) => budget.budgetId);
  const known = nearest(budgetId, ids) || ids.slice(0, 3).join(", ") || "none, because there is no budget";
  throw refusal(budgetId, `the id of a budget (${known})`, "NOT_FOUND");
}

async function crossingsByBudget({ documents }: Backend): Promise<Map<string, BudgetCrossing[]>> {
  return Map.groupBy(await bodiesOf<BudgetCrossing>(documents, CROSSING), ({ budgetId }) => budgetId);
}

/** The thresholds of a budget that an amount reaches. */
function reachedThresholds(budget: Budget, spent: Decimal): number[] {
  return budget.thresholds.filter((threshold) => spent.compare(thresholdAmount(budget, threshold)) >= 0);
}

function refusal(budgetId: string, expected: string, code: ErrorCode): ValidationError {
  return new ValidationError({ subject: "a budget", field: "budgetId", value: budgetId, expected, code });
}
