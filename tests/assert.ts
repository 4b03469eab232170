/**
 * The assertions of the tests: `@std/assert` where JSR can be reached, else the same on `node:assert/strict`.
 *
 * @module
 */
import node from "node:assert/strict";

type ErrorClass = abstract new (...args: never[]) => Error;

interface Assertions {
  assert(condition: unknown, message?: string): asserts condition;
  assertEquals(actual: unknown, expected: unknown, message?: string): void;
  assertMatch(actual: string, expected: RegExp, message?: string): void;
  assertThrows(run: () => unknown, type?: ErrorClass, includes?: string): unknown;
  assertRejects(run: () => Promise<unknown>, type?: ErrorClass, includes?: string): Promise<unknown>;
}

const onNode: Assertions = {
  assert: (condition, message) => node.ok(condition, message),
  assertEquals: (actual, expected, message) => node.deepEqual(actual, expected, message),
  assertMatch: (actual, expected, message) => node.match(actual, expected, message),
  assertThrows(run, type, includes) {
    try {
      run();
    } catch (error) {
      return checkError(error, type, includes);
    }
    node.fail("expected an error to be thrown");
  },
  async assertRejects(run, type, includes) {
    let promise: Promise<unknown>;
    try {
      promise = run();
    } catch (error) {
      node.fail(`threw instead of rejecting: ${error}`);
    }
    try {
      await promise;
    } catch (error) {
      return checkError(error, type, includes);
    }
    node.fail("expected a rejection");
  },
};

function checkError(error: unknown, type: ErrorClass = Error, includes = ""): unknown {
  node.ok(error instanceof type, `expected ${type.name}, got ${error}`);
  node.ok((error as Error).message.includes(includes), `expected "${includes}" in: ${error}`);
  return error;
}

const std = await import("@std/assert").catch(() => undefined) as unknown as Assertions | undefined;
const chosen = std ?? onNode;

export const assert: Assertions["assert"] = chosen.assert;
export const assertEquals: Assertions["assertEquals"] = chosen.assertEquals;
export const assertMatch: Assertions["assertMatch"] = chosen.assertMatch;
export const assertThrows: Assertions["assertThrows"] = chosen.assertThrows;
export const assertRejects: Assertions["assertRejects"] = chosen.assertRejects;
