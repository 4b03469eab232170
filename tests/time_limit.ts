/**
 * Gives every test a time limit, so that one that hangs fails by its name and the others still count. Loaded before each
 * file of tests.
 *
 * @module
 */

/** Far more than any test takes, on any machine. */
const TIMEOUT_MS = 10 * 60_000;

const register = Deno.test as (...parts: unknown[]) => void;

/** Registers a test, in each form that `Deno.test` takes. */
function registerLimited(...parts: unknown[]): void {
  const options = parts.find((part) => typeof part === "object");
  const limited = { timeout: TIMEOUT_MS, ...options as object };
  if (options) register(...parts.map((part) => part === options ? limited : part));
  else register(...parts.slice(0, -1), limited, parts.at(-1));
}

Object.assign(Deno, { test: Object.assign(registerLimited, register) });
