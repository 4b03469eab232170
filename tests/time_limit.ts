/**
 * Gives every test a time limit, so that one that hangs fails by its name and the others still count. Loaded before each
 * file of tests. For `tests/run.ts` it notes in a file how far the tests of a file are.
 *
 * @module
 */

/** Ten times what the slowest test takes on an idle machine of two cores. */
const TIMEOUT_MS = 4 * 60_000;

/** Progress of a file of tests. */
export interface Progress {
  readonly file: string;
  /** The test that is running; undefined when the file is finished. */
  running?: string;
  passed: number;
  failed: number;
}

const folder = Deno.env.get("TEST_PROGRESS_FOLDER");
const path = `${folder}/${crypto.randomUUID()}.json`;
const progress: Progress = { file: Deno.mainModule, running: "", passed: 0, failed: 0 };

function note(changes: Partial<Progress>): void {
  Object.assign(progress, changes);
  if (folder) Deno.writeTextFileSync(path, JSON.stringify(progress));
}

type Run = (context: Deno.TestContext) => void | Promise<void>;
const register = Deno.test;

/** Registers a test, in each form that `Deno.test` takes. */
function registerLimited(...parts: unknown[]): void {
  const options = parts.find((part) => typeof part === "object") as Partial<Deno.TestDefinition> | undefined;
  const run = (parts.find((part) => typeof part === "function") ?? options!.fn) as Run;
  const name = (parts.find((part) => typeof part === "string") ?? options?.name ?? run.name) as string;
  const fn: Run = async (context) => {
    note({ running: name });
    progress.failed++;
    await run(context);
    note({ running: "", passed: progress.passed + 1, failed: progress.failed - 1 });
  };
  register({ timeout: TIMEOUT_MS, ...options, name, fn } as Deno.TestDefinition);
}

Object.assign(Deno, { test: Object.assign(registerLimited, register) });
note({});
register.afterAll(() => note({ running: undefined }));
