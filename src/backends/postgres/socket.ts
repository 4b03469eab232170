import { Buffer } from "node:buffer";
import { connect, isIP, type Socket } from "node:net";
import { checkServerIdentity, connect as startTls, type ConnectionOptions } from "node:tls";
import type { PostgresTarget } from "./target.ts";

/** Asks the server whether it speaks TLS. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
/** Idle time after which the system asks whether the server is there: one that vanished ends no statement. */
const KEEP_ALIVE_MS = 30_000;

/**
 * Opens the socket that the driver is to use, with TLS as the target asks for it.
 *
 * Done here and not by the driver, which leaves Nagle's algorithm on (COPY is three times as slow then), takes a
 * server's refusal of TLS for a broken connection, and loses a connection's slot for good when it cannot connect.
 *
 * @param signal Ends the attempt.
 * @throws An error with a `code`: of the network, `CONNECT_TIMEOUT`, `TLS_REFUSED` or `TLS_FAILED`.
 */
export async function openPostgresSocket(target: PostgresTarget, signal?: AbortSignal): Promise<Socket> {
  const { host, port, sslMode, connectTimeoutMs } = target;
  const isUnix = host.startsWith("/");
  const socket = isUnix ? connect(`${host}/.s.PGSQL.${port}`) : connect({ host, port });
  const timer = setTimeout(() => {
    socket.destroy(coded("CONNECT_TIMEOUT", `no answer within ${connectTimeoutMs / 1_000} s`));
  }, connectTimeoutMs);
  const cut = () => socket.destroy(coded("ECONNRESET", "the attempt was given up"));
  signal?.addEventListener("abort", cut);
  try {
    await next(socket, "connect");
    if (isUnix) return socket;
    socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
    if (sslMode === "disable") return socket;
    socket.write(SSL_REQUEST);
    const answer = await next(socket, "data") as Uint8Array;
    if (answer.length === 1 && answer[0] === "S".charCodeAt(0)) return await secure(socket, target);
    if (sslMode === "prefer" || sslMode === "allow") return socket;
    throw coded("TLS_REFUSED", "the server does not speak TLS");
  } catch (error) {
    socket.destroy();
    throw asNotCapable(error, target);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cut);
  }
}

/** Names the flag, as Deno itself does for addresses: of a host name that is not granted it only says EPERM. */
function asNotCapable(error: unknown, { host, port }: PostgresTarget): unknown {
  const { code, syscall } = error as { code?: string; syscall?: string };
  if (code !== "EPERM" || syscall !== "getaddrinfo") return error;
  return new Deno.errors.NotCapable(
    `Requires net access to "${host}:${port}", run again with the --allow-net=${host}:${port} flag`,
  );
}

async function secure(socket: Socket, target: PostgresTarget): Promise<Socket> {
  try {
    const secured = startTls({ socket, ...tlsOptions(target) });
    await next(secured, "secureConnect");
    return secured;
  } catch (error) {
    if ((error as { code?: string }).code === "CONNECT_TIMEOUT") throw error;
    throw coded("TLS_FAILED", error instanceof Error ? error.message : String(error));
  }
}

/** As libpq: only the verify modes check the certificate, and require does with a root certificate. */
function tlsOptions(target: PostgresTarget): ConnectionOptions {
  const { host, sslMode, sslRootCert, sslCert, sslKey } = target;
  const read = (file: string | undefined) => file === undefined ? undefined : Deno.readTextFileSync(file);
  const isSystem = sslRootCert === "system";
  return {
    servername: isIP(host) === 0 ? host : undefined,
    ca: isSystem ? undefined : read(sslRootCert),
    cert: read(sslCert),
    key: read(sslKey),
    rejectUnauthorized: sslMode.startsWith("verify") || (sslMode === "require" && sslRootCert !== undefined),
    // By itself it would compare with "localhost" where the host is an address.
    checkServerIdentity: (_, certificate) =>
      sslMode === "verify-full" ? checkServerIdentity(host, certificate) : undefined,
  };
}

/** The next event of a socket, or its failure. */
function next(socket: Socket, event: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void) => {
      socket.off(event, succeed).off("error", fail).off("close", end);
      done();
    };
    const succeed = (value?: unknown) => settle(() => resolve(value));
    const fail = (error: Error) => settle(() => reject(error));
    const end = () => fail(coded("ECONNRESET", "the server closed the connection"));
    socket.on(event, succeed).on("error", fail).on("close", end);
  });
}

function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
