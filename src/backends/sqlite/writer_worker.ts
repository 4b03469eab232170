/**
 * A thread that writes into an SQLite file: `writer_thread.ts` starts it and sends it the batches.
 *
 * @module
 */
import { parentPort, workerData } from "node:worker_threads";
import { errorCodeOf, kindOf, messageOf } from "../../errors.ts";
import { sendConsoleToStderr } from "../../console.ts";
import { loadSqliteDriver } from "./driver.ts";
import { openOnceMore } from "./file.ts";
import type { Reply, ThreadData } from "./writer_thread.ts";
import { type Call, runCall, StagingConnection } from "./staging_connection.ts";
import { type EncodedBatch, SqliteWriter } from "./writer.ts";

const { driver, ...options } = workerData as ThreadData;
sendConsoleToStderr();

try {
  const database = openOnceMore(await loadSqliteDriver(driver), options);
  const writer = new SqliteWriter(database, options);
  let staging: StagingConnection | undefined;
  // Not `parentPort.on()`, which looks for ports in all that comes, and so takes longer than SQLite (measured).
  addEventListener("message", (event) =>
    answer(() => {
      const message: EncodedBatch | Call | "close" = (event as MessageEvent).data;
      if (message === "close") return { result: database.close() };
      if ("method" in message) {
        return {
          result: runCall(staging ??= new StagingConnection(database, options), options.path, message),
        };
      }
      return { result: writer.write(message) };
    }));
  answer(() => ({}));
} catch (error) {
  answer(() => {
    throw error;
  });
}

/** Does something and says how it went. */
function answer(run: () => Reply): void {
  let reply: Reply;
  try {
    reply = run();
  } catch (error) {
    reply = { failure: { message: messageOf(error), code: errorCodeOf(error), kind: kindOf(error) } };
  }
  parentPort!.postMessage(reply);
}
