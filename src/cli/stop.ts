/**
 * Signals by which people and systems stop a command.
 *
 * @module
 */
import { unlessAborted } from "../pipeline/unless_aborted.ts";
import { note } from "./output.ts";

/** Signals that end a program. Windows also ends one on Ctrl-Break and when its window closes. */
export const STOP_SIGNALS: readonly Deno.Signal[] = [
  "SIGINT",
  "SIGHUP",
  Deno.build.os === "windows" ? "SIGBREAK" : "SIGTERM",
];

/** Result of work that a stop ended. */
export const STOPPED: unique symbol = Symbol("stopped");

/** Returns a signal that aborts on Ctrl-C and when the system ends the process. Listens until it is disposed. */
export function listenForStop(
  reason?: Error,
  signals = STOP_SIGNALS,
): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const abort = () => controller.abort(reason);
  for (const signal of signals) Deno.addSignalListener(signal, abort);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const signal of signals) Deno.removeSignalListener(signal, abort);
    },
  };
}

/** Waits for work until the signal is aborted. */
export async function unlessStopped<T>(work: Promise<T>, signal: AbortSignal): Promise<T | typeof STOPPED> {
  try {
    return await unlessAborted(work, signal);
  } catch (error) {
    if (signal.aborted && error === signal.reason) return STOPPED;
    throw error;
  }
}

/** Waits for a signal to stop. */
export async function stopped(signal: AbortSignal): Promise<void> {
  await unlessStopped(new Promise(() => {}), signal);
}

/**
 * Waits until what a command needs is open. A signal to stop ends the process meanwhile: nothing is accepted yet, and a
 * database may not answer.
 */
export async function openUnlessStopped<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const opened = await unlessStopped(work, signal);
  if (opened !== STOPPED) return opened;
  note("Stopped before the database was open.", "info");
  Deno.exit();
}
