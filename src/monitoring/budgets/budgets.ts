import { isDeepStrictEqual } from "node:util";
import { HISTORY_DAYS } from "../../aggregation/forecast.ts";
import type { Backend } from "../../backends/backend.ts";
import { type ErrorCode, ValidationError } from "../../errors.ts";
import { nearest } from "../../nearest.ts";
import type { EventListener } from "../../pipeline/events.ts";
import type { Budget } from "../../records/budget.ts";
import { DAY_MS } from "../../records/calendar.ts";
import { acceptTimeText, acceptTimeZone } from "../../records/validation.ts";
import { acceptBudget, type BudgetInput, type BudgetWindow, windowAt } from "./budget.ts";
import { type BudgetStatus, budgetStatus, mayChange, reachedThresholds } from "./budget_status.ts";
import { CrossingLog, rearm, recordCrossings } from "./crossings.ts";
import { basisOf, readDailyTotals, readSpending, readSpendings, type Spending, spentOf } from "./spending.ts";
import { isAnything, isText, takeFields } from "../../records/field_checks.ts";
import { bodiesOf, BUDGET, EXISTENCE } from "../document_kinds.ts";

/** Changes to a budget; null removes a field. */
export type BudgetChanges = {
  [Field in keyof Omit<BudgetInput, "budgetId">]?: BudgetInput[Field] | null;
};

/** Budgets to report, and the time. */
export interface BudgetQuery {
  /** Only this one. */
  budgetId?: string;
  /**
   * Time in the period to report: epoch milliseconds, a `Date` or a text. The status is the current one, or that at the end of a
   * period that is over.
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
      // A program may create its budgets at each start.
      const [stored] = await storedBudgets(this.#backend, budget.budgetId);
      if (isDeepStrictEqual(stored, budget)) return budget;
      throw refusal(
        budget.budgetId,
        "new (a budget with this id exists; change that one)",
        "ALREADY_EXISTS",
      );
    }
    const existence = { kind: EXISTENCE, id: `budget/${budget.budgetId}`, body: { since: Date.now() } };
    await this.#backend.documents.write(existence);
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
      const window = windowAt(budget, Date.now());
      const { totals } = await readSpending(this.#backend, { budget, window });
      const reached = reachedThresholds(budget, spentOf(budget, totals));
      const log = await CrossingLog.read(this.#backend.documents);
      const open = log.of(budget, window).filter(({ threshold }) => !reached.includes(threshold));
      for (const crossing of open) await rearm(this.#backend, crossing);
    } finally {
      this.#onChange();
    }
    return budget;
  }

  async delete(budgetId: string): Promise<boolean> {
    const wasThere = await this.#backend.documents.delete(BUDGET, budgetId);
    this.#onChange();
    // Kept, and armed again: a notification of a new budget with this id must not have the id of an earlier one.
    const log = await CrossingLog.read(this.#backend.documents);
    for (const crossing of log.of({ budgetId })) await rearm(this.#backend, crossing);
    return wasThere;
  }

  /** Also emits thresholds that were crossed unseen, such as by an import of another process. */
  async status(query?: BudgetQuery): Promise<BudgetStatus[]> {
    const found = await readBudgetSpendings(this.#backend, { timeZone: this.#timeZone, ...query });
    // A user who may only read gets the status all the same.
    if (!this.#isClosed()) await this.#recordCrossings(found).catch(() => {});
    return await reportOf(this.#backend, found);
  }

  /** Records thresholds that are crossed in running periods. */
  async #recordCrossings(found: readonly BudgetSpending[]): Promise<void> {
    const log = await CrossingLog.read(this.#backend.documents);
    for (const { budget, window, spending: { totals } } of found) {
      if (window.start > Date.now() || window.end <= Date.now()) continue;
      await recordCrossings(this.#backend, { budget, window, totals }, { log, emit: this.#emit });
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
  const log = await CrossingLog.read(backend.documents);
  const now = Date.now();
  const open = found.filter(({ window }) => mayChange(window, now));
  const basis = new Map(open.map(({ budget, spending }) => [budget, basisOf(budget, spending.totals)]));
  const span = { start: now - HISTORY_DAYS * DAY_MS, end: now + 1 };
  const days = await readDailyTotals(backend, basis, span);
  return found.map(({ budget, ...rest }) =>
    budgetStatus(budget, { ...rest, crossings: log.of(budget, rest.window), days: days.get(budget), now })
  );
}

async function storedBudgets({ documents }: Backend, budgetId?: string): Promise<Budget[]> {
  const all = await bodiesOf<Budget>(documents, BUDGET);
  if (budgetId === undefined) return all;
  const found = all.filter((budget) => budget.budgetId === budgetId);
  if (found.length > 0) return found;
  const ids = all.map((budget) => budget.budgetId);
  const known = nearest(budgetId, ids) || ids.slice(0, 3).join(", ") || "there is none yet";
  throw refusal(budgetId, `the id of a budget (${known})`, "NOT_FOUND");
}

function refusal(budgetId: string, expected: string, code: ErrorCode): ValidationError {
  return new ValidationError({ subject: "a budget", field: "budgetId", value: budgetId, expected, code });
}
