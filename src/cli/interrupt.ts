import { TransferError } from "../transfer/transfer_error.ts";

/** Aborts on Ctrl-C and TERM, so that the command can say what is stored. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #signals: readonly Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT"]
    : ["SIGINT", "SIGTERM"];
  readonly #abort = () =>
    this.#controller.abort(
      new TransferError(
        "Interrupted. No costs were stored. Other records that were written stay. Run the same command again; " +
          "it skips them.",
        { code: "INTERRUPTED" },
      ),
    );

  constructor() {
    for (const signal of this.#signals) Deno.addSignalListener(signal, this.#abort);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    for (const signal of this.#signals) Deno.removeSignalListener(signal, this.#abort);
  }
}
