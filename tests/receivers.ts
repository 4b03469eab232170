/** Servers on loopback that receive notifications, and keep what they were sent. */
import type { AddressInfo, Server } from "node:net";
import { SMTPServer } from "smtp-server";

/** A request as it was received. */
export interface Received {
  readonly path: string;
  /** Parameters of the query. */
  readonly search: URLSearchParams;
  readonly headers: Headers;
  readonly text: string;
}

/** An HTTP server that answers with 204, or as it is told to. */
export class HttpReceiver implements AsyncDisposable {
  readonly received: Received[] = [];
  answer: (received: Received) => Response | Promise<Response> = () => new Response(null, { status: 204 });
  readonly #server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const { pathname, searchParams } = new URL(request.url);
    const received = {
      path: pathname,
      search: searchParams,
      headers: request.headers,
      text: await request.text(),
    };
    this.received.push(received);
    return await this.answer(received);
  });

  /** The URL of a path. */
  url(path = "/"): string {
    return `http://127.0.0.1:${this.#server.addr.port}${path}`;
  }

  /** Idempotency keys in the order of the requests. */
  get keys(): string[] {
    return this.received.map(({ headers }) => headers.get("idempotency-key")!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** Answers an agent as the server does. An agent asks for as many errors as it sends records. */
export function acceptRecords({ search }: Received): Response {
  return Response.json({ accepted: Number(search.get("errors")), refused: 0 });
}

/** A mail as it was received. */
interface Mail {
  readonly from: string;
  readonly to: string[];
  readonly text: string;
}

/** An SMTP server, with one user if it has a password. */
export class SmtpReceiver implements AsyncDisposable {
  readonly received: Mail[] = [];
  readonly #server: SMTPServer;

  private constructor(password: string | undefined) {
    this.#server = new SMTPServer({
      authOptional: password === undefined,
      allowInsecureAuth: true,
      disabledCommands: ["STARTTLS"],
      onAuth: (auth, _session, done) =>
        auth.password === password ? done(null, { user: auth.username }) : done(new Error("refused: secret")),
      onData: (stream, { envelope }, done) => {
        const parts: Uint8Array[] = [];
        stream.on("data", (part: Uint8Array) => parts.push(part));
        stream.on("end", async () => {
          const text = await new Blob(parts as BlobPart[]).text();
          const { mailFrom, rcptTo } = envelope;
          const from = mailFrom ? mailFrom.address : "";
          this.received.push({ from, to: rcptTo.map(({ address }) => address), text });
          done();
        });
      },
    });
    this.#server.on("error", () => {}); // connections that a client cuts
  }

  static async start(password?: string): Promise<SmtpReceiver> {
    const receiver = new SmtpReceiver(password);
    await new Promise<void>((resolve) => receiver.#server.listen(0, "127.0.0.1", resolve));
    return receiver;
  }

  /** The URL with a user. */
  url(user = ""): string {
    const { port } = (this.#server.server as unknown as Server).address() as AddressInfo;
    return `smtp://${user}127.0.0.1:${port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
