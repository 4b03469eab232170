import { generate } from "selfsigned";
import { connect, type PeerCertificate, type TLSSocket } from "node:tls";
import { readCertificate, watchCertificate } from "../src/server/tls.ts";
import { assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { openServer, startServer } from "./server.ts";
import { until } from "./until.ts";

/** Writes a certificate of a name and its key. */
async function writeCertificate(folder: TemporaryFolder, commonName: string, as = "server") {
  const { cert, private: key } = await generate([{ name: "commonName", value: commonName }], {
    keyType: "ec",
    extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }] }],
  });
  const files = { certFile: folder.file(`${as}.pem`), keyFile: folder.file(`${as}.key`) };
  Deno.writeTextFileSync(files.keyFile, key);
  Deno.writeTextFileSync(files.certFile, cert);
  return files;
}

/** A TLS connection that keeps its socket for several requests. */
class Client implements Disposable {
  readonly #socket: TLSSocket;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
  }

  static async open(url: string): Promise<Client> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    return new Client(socket);
  }

  /** Common name of the certificate that the server showed. */
  get name(): string {
    return (this.#socket.getPeerCertificate() as PeerCertificate).subject.CN as string;
  }

  /** Asks for the health, and returns the status line. */
  async ask(): Promise<string> {
    this.#socket.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const bytes: Uint8Array = await new Promise((resolve, reject) =>
      this.#socket.once("data", resolve).once("error", reject).once("close", reject)
    );
    return new TextDecoder().decode(bytes).split("\r\n")[0];
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

Deno.test("serve closes by its deadline although a client never finishes the handshake of TLS", async () => {
  using folder = new TemporaryFolder();
  const certificate = await readCertificate(await writeCertificate(folder, "name"));
  await using server = await openServer({}, {}, { certificate, connections: { headersTimeout: 600_000 } });
  const { hostname, port } = new URL(server.url);
  using silent = await Deno.connect({ hostname, port: Number(port) });
  await silent.write(Uint8Array.of(22, 3, 1, 2, 0, 1)); // the begin of a ClientHello
  using client = await Client.open(server.url);
  assertEquals(await client.ask(), "HTTP/1.1 200 OK"); // so the connection before it is accepted, too
  await server.listening.close({ deadlineMs: 100 });
});

Deno.test("serve uses a new certificate for new connections, and keeps those that are open", async () => {
  using folder = new TemporaryFolder();
  const files = await writeCertificate(folder, "first");
  await using server = await openServer({}, {}, { certificate: await readCertificate(files) });
  assertMatch(server.url, /^https:/);
  using before = await Client.open(server.url);
  assertEquals([before.name, await before.ask()], ["first", "HTTP/1.1 200 OK"]);
  server.listening.useCertificate(await readCertificate(await writeCertificate(folder, "second")));
  using after = await Client.open(server.url);
  assertEquals([after.name, await after.ask()], ["second", "HTTP/1.1 200 OK"]);
  assertEquals(await before.ask(), "HTTP/1.1 200 OK");
});

Deno.test("watchCertificate reports a pair that does not fit once, and waits for the right one", async () => {
  using folder = new TemporaryFolder();
  const files = await writeCertificate(folder, "first");
  const first = await readCertificate(files);
  const changes: string[] = [];
  const faults: string[] = [];
  using _watch = watchCertificate(files, first, {
    everyMs: 10,
    onChange: ({ cert }) => changes.push(cert),
    onFault: (error) => faults.push(String(error)),
  });
  const next = await readCertificate(await writeCertificate(folder, "second", "next"));
  Deno.writeTextFileSync(files.certFile, next.cert); // its key comes a moment later
  await until(() => faults.length > 0, "the fault");
  assertMatch(faults[0], /the key does not belong to the certificate/);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assertEquals([changes.length, faults.length], [0, 1]);
  Deno.writeTextFileSync(files.keyFile, next.key);
  await until(() => changes.length > 0, "the certificate");
  assertEquals([changes, faults.length], [[next.cert], 1]);
});

Deno.test("openfinops serve takes a renewed certificate without a restart", async () => {
  using folder = new TemporaryFolder();
  const { certFile, keyFile } = await writeCertificate(folder, "first");
  const at = ["--backend", "memory", "--tls-cert", certFile, "--tls-key", keyFile];
  await using server = await startServer(at, { cwd: folder.path });
  const name = async () => {
    using client = await Client.open(server.url);
    return client.name;
  };
  assertEquals(await name(), "first");
  await writeCertificate(folder, "second");
  await until(async () => await name() === "second", "the renewed certificate", 250);
  assertEquals(await server.stop(), 0);
});

Deno.test("serve ends connections that begin no TLS handshake, and plain HTTP", async () => {
  using folder = new TemporaryFolder();
  const certificate = await readCertificate(await writeCertificate(folder, "first"));
  const connections = { headersTimeout: 500, connectionsCheckingInterval: 100 };
  await using server = await openServer({}, {}, { certificate, connections });
  const { hostname, port } = new URL(server.url);
  const bytes = new Uint8Array(100);
  using idle = await Deno.connect({ hostname, port: Number(port) });
  using plain = await Deno.connect({ hostname, port: Number(port) });
  await plain.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  for (const connection of [idle, plain]) {
    for (let length: number | null = 1; length !== null;) {
      length = await connection.read(bytes).catch(() => null);
    }
  }
  using client = await Client.open(server.url);
  assertEquals(await client.ask(), "HTTP/1.1 200 OK");
});

Deno.test("openfinops serve names a certificate that it cannot use", async () => {
  using folder = new TemporaryFolder();
  const { certFile } = await writeCertificate(folder, "first");
  const { keyFile } = await writeCertificate(folder, "second", "other");
  await assertRejects(
    () => readCertificate({ certFile, keyFile }),
    Error,
    "does not belong to the certificate",
  );
  await assertRejects(
    () => readCertificate({ certFile: keyFile, keyFile }),
    Error,
    "Cannot use the certificate",
  );
  for (const files of [{ certFile: "none.pem", keyFile }, { certFile, keyFile: "none.pem" }]) {
    await assertRejects(
      () => readCertificate(files),
      Error,
      "none.pem is not a readable file. Name another.",
    );
  }
});
