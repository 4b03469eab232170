/**
 * Preloaded into a command, it shortens two waits of ten seconds: that of closing for what cannot be written, and that of
 * opening an SQLite file for its lock. All else is as it is.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";

const LONG_MS = 10_000;
const SHORT_MS = 200;

const setTimeout = globalThis.setTimeout as (run: unknown, ms?: number, ...args: unknown[]) => unknown;
globalThis.setTimeout =
  ((run: unknown, ms?: number, ...args: unknown[]) =>
    setTimeout(run, ms === LONG_MS ? SHORT_MS : ms, ...args)) as typeof globalThis.setTimeout;

const { exec } = DatabaseSync.prototype;
DatabaseSync.prototype.exec = function (sql: string) {
  return exec.call(this, sql.replace(`busy_timeout = ${LONG_MS}`, `busy_timeout = ${SHORT_MS}`));
};
