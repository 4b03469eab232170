import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** Message of a client that commits, in the protocol of PostgreSQL. */
const COMMIT = "COMMIT\0";

/** A TCP proxy in front of a server on this machine, that does harm. */
export class Proxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #port: number;
  readonly #sockets = new Set<Socket>();
  readonly #clients = new Set<Socket>();
  readonly #onEnd = new Set<() => void>();
  #isStalled = false;
  #cutsCommits = 0;
  /** Connections that were cut so far. */
  cuts = 0;

  static async start(port: number): Promise<Proxy> {
    const proxy = new Proxy(port);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  private constructor(port: number) {
    this.#port = port;
    this.#server = createServer((client) => this.#serve(client));
  }

  /** The same address, by way of the proxy. */
  url(url: string): string {
    const through = new URL(url);
    through.hostname = "127.0.0.1";
    through.port = String((this.#server.address() as AddressInfo).port);
    return through.href;
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.cuts += this.#sockets.size / 2;
    this.#sockets.clear();
  }

  /** Lets nothing through until {@linkcode Proxy.resume}; connections stay. */
  stall(): void {
    this.#isStalled = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** Holds back the bytes of present clients until {@linkcode Proxy.resume}. New clients are served. */
  holdBack(): void {
    for (const socket of this.#clients) socket.pause();
  }

  /** Waits until a connection ends. */
  nextEnd(): Promise<void> {
    return new Promise((resolve) => this.#onEnd.add(resolve));
  }

  resume(): void {
    this.#isStalled = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** Cuts the connections of the next so many commits, when the server has replied and before the client hears of it. */
  cutCommits(count: number): void {
    this.#cutsCommits = count;
  }

  get hasCutCommits(): boolean {
    return this.#cutsCommits === 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(client: Socket): void {
    const upstream = connect({ host: "127.0.0.1", port: this.#port });
    let isCommitting = false;
    this.#clients.add(client);
    client.on("close", () => {
      this.#clients.delete(client);
      for (const resolve of this.#onEnd) resolve();
      this.#onEnd.clear();
    });
    this.#join(client, (chunk) => {
      if (this.#cutsCommits > 0 && chunk.includes(COMMIT)) isCommitting = true;
      upstream.write(chunk);
    }, upstream);
    this.#join(upstream, (chunk) => {
      if (!isCommitting) return client.write(chunk);
      if (this.#cutsCommits > 0) this.#cutsCommits--;
      this.cuts++;
      client.destroy();
      upstream.destroy();
    }, client);
  }

  #join(from: Socket, onData: (chunk: Uint8Array & { includes(text: string): boolean }) => void, to: Socket) {
    this.#sockets.add(from);
    from.setNoDelay(true);
    from.on("data", onData as (chunk: Uint8Array) => void);
    from.on("error", () => {});
    from.on("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
    if (this.#isStalled) from.pause();
  }
}
