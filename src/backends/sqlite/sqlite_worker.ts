/**
 * A thread that writes into an SQLite file or reads it: `sqlite_thread.ts` starts it and sends it batches and calls.
 *
 * @module
 */
import { parentPort, workerData } from "node:worker_threads";
import { errorCodeOf, kindOf, messageOf } from "../../errors.ts";
import { sendConsoleToStderr } from "../../console.ts";
import { type Call, runCall } from "./call.ts";
import { loadSqliteDriver } from "./driver.ts";
import { openForQuestions, openOnceMore, openSqliteFile } from "./file.ts";
import { ReadConnection } from "./read_connection.ts";
import type { Reply, ThreadData } from "./sqlite_thread.ts";
import { StagingConnection } from "./staging_connection.ts";
import { type EncodedBatch, SqliteWriter } from "./writer.ts";

/** Most items of a list in one message; 2,000 rows take a few milliseconds. */
const MAX_ITEMS = 2_000;

const { driver, isReader, ...options } = workerData as ThreadData;
sendConsoleToStderr();

try {
  const loaded = await loadSqliteDriver(driver);
  const database = isReader ? openForQuestions(loaded, options) : openOnceMore(loaded, options);
  const writer = new SqliteWriter(database, options);
  const connection = isReader
    ? new ReadConnection(database, () => openSqliteFile(loaded, options.path, "read"))
    : new StagingConnection(database, options);
  // Not `parentPort.on()`, which looks for ports in all that comes, and so takes longer than SQLite (measured).
  addEventListener("message", (event) =>
    answer(() => {
      const message: EncodedBatch | Call<typeof connection> | "close" = (event as MessageEvent).data;
      if (message === "close") return { result: database.close() };
      if ("method" in message) return { result: runCall(connection, options.path, message) };
      return { result: writer.write(message) };
    }));
  answer(() => ({}));
} catch (error) {
  answer(() => {
    throw error;
  });
}

/** Runs a request, and posts its result or its failure. */
function answer(run: () => Reply): void {
  let reply: Reply;
  try {
    reply = run();
  } catch (error) {
    reply = { failure: { message: messageOf(error), code: errorCodeOf(error), kind: kindOf(error) } };
  }
  const { result } = reply;
  if (Array.isArray(result)) {
    // In parts, because the main thread is blocked while it receives a message.
    while (result.length > MAX_ITEMS) parentPort!.postMessage({ part: result.splice(0, MAX_ITEMS) });
  }
  parentPort!.postMessage(reply);
}
