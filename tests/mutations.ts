/**
 * Single changes to the source that the tests must notice, as data. `deno task mutate` makes each of them in a copy
 * of the project and runs the tests that are named with it.
 *
 * @module
 */
import { ACCESS } from "./mutations/access.ts";
import { AGENTS } from "./mutations/agents.ts";
import { API } from "./mutations/api.ts";
import { BACKENDS } from "./mutations/backends.ts";
import { BEHAVIOR } from "./mutations/behavior.ts";
import { DASHBOARD } from "./mutations/dashboard.ts";
import { DUCKDB } from "./mutations/duckdb.ts";
import { FAILURES } from "./mutations/failures.ts";
import { INTAKE } from "./mutations/intake.ts";
import { NOTIFICATIONS } from "./mutations/notifications.ts";
import { PIPELINE } from "./mutations/pipeline.ts";
import { REQUESTS } from "./mutations/requests.ts";
import { SPOOL } from "./mutations/spool.ts";
import { STORE } from "./mutations/store.ts";

/** One change to the source, which breaks one promise. */
export interface Mutation {
  /** Short name of the promise that it breaks, such as `journal-sync`. */
  readonly name: string;
  /** The file, from the root of the project. */
  readonly file: string;
  /** Text that occurs exactly once in the file. */
  readonly before: string;
  /** Replacement of that text. */
  readonly after: string;
  /** Test files in `tests/`, each perhaps with a part of a test name: `spool_test.ts: a failed sync`. */
  readonly tests: readonly string[];
  /** Reason why no test can notice it. Such a change is not tried. */
  readonly equivalent?: string;
}

/** All changes, by area. */
export const MUTATIONS: Readonly<Record<string, readonly Mutation[]>> = {
  pipeline: PIPELINE,
  spool: SPOOL,
  requests: REQUESTS,
  api: API,
  backends: BACKENDS,
  duckdb: DUCKDB,
  failures: FAILURES,
  store: STORE,
  behavior: BEHAVIOR,
  intake: INTAKE,
  notifications: NOTIFICATIONS,
  agents: AGENTS,
  access: ACCESS,
  dashboard: DASHBOARD,
};
