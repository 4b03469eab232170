import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Most requests of a connection at once. Common clients send one, and the next after its answer. */
const MAX_PIPELINED = 64;

/** A request that is not answered yet. */
interface OpenRequest {
  readonly controller: AbortController;
  readonly end: () => void;
  readonly ended: Promise<void>;
}

/**
 * Requests that are not answered yet, by connection. Those of a connection are answered one by one: Node 24 and Deno 2.9
 * hold a whole answer in memory while an earlier one is sent, and report no close of answers that wait.
 */
export class OpenRequests {
  readonly #bySocket = new Map<Socket, Set<OpenRequest>>();

  /**
   * Adds a request. Returns its signal, which aborts when it cannot be answered any more, and its turn; undefined where the
   * connection has too many, and is closed.
   */
  add(socket: Socket, outgoing: ServerResponse): { signal: AbortSignal; turn?: Promise<void> } | undefined {
    if (socket.destroyed) return undefined; // a request that arrived before the close
    const open = this.#bySocket.getOrInsertComputed(socket, () => this.#watch(socket));
    if (open.size >= MAX_PIPELINED) return void socket.destroy();
    const turn = [...open].at(-1)?.ended;
    const controller = new AbortController();
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const request = { controller, end, ended };
    open.add(request);
    outgoing.on("close", () => {
      open.delete(request);
      end();
      if (!outgoing.writableFinished) controller.abort();
    });
    return { signal: controller.signal, turn };
  }

  abort(): void {
    for (const open of this.#bySocket.values()) abortAll(open);
  }

  #watch(socket: Socket): Set<OpenRequest> {
    const open = new Set<OpenRequest>();
    socket.once("close", () => {
      this.#bySocket.delete(socket);
      abortAll(open);
    });
    return open;
  }
}

function abortAll(open: ReadonlySet<OpenRequest>): void {
  for (const { controller, end } of open) {
    controller.abort();
    end();
  }
}
