import { type BackendError, failureOf, type FailureRow, failureRows, messageOf } from "../../errors.ts";

/**
 * Meaning of failures on the way to an OpenFinOps server. Matched against the status of its answer, or the name of the
 * error and its message. The network may have lost the answer to a batch that was stored: its key lets it be sent again.
 */
// deno-fmt-ignore: a failure is two lines, one for programs and one for people
export const REMOTE_FAILURES: readonly FailureRow[] = failureRows([
  [/^2\d\d /, "SERVER_UNSUPPORTED", "operator",
    "the answer is not that of an OpenFinOps server",
    "Check the URL. A proxy, a sign-in page or a captive portal may answer in its place."],
  [/^401 /, "TOKEN_REFUSED", "operator",
    "the server refuses the token",
    "Create one with `openfinops token create NAME --scope ingest` (to read: `--scope read`), and set OPENFINOPS_TOKEN or its file."],
  [/^403 /, "SCOPE_MISSING", "operator",
    "the token may not do this", "Sending takes the scope `ingest`, and reading `read`."],
  [/^(404|405) /, "SERVER_UNSUPPORTED", "operator",
    "there is no such route",
    "Check the URL: it is that of `openfinops serve`, without a path behind its own."],
  [/^3\d\d /, "SERVER_UNSUPPORTED", "operator",
    "the server redirects", "Use the URL that it redirects to. The token is not sent elsewhere."],
  [/^413 /, "BODY_TOO_LARGE", "data",
    "the request is too large for the server",
    "It is split. If one record is too large, raise the limit of the server."],
  [/^429 /, "RATE_LIMITED", "transient",
    "the server limits the rate of this token", "Wait as long as the server says."],
  [/^507 /, "DISK_FULL", "disk-full",
    "the server has no space left", "Free some there, or raise `maxSpoolBytes`."],
  [/^(502|503|504) /, "SERVER_BUSY", "transient",
    "the server is not ready", "If this lasts, see the server's log."],
  [/^(408|5\d\d) /, "SERVER_FAILED", "transient",
    "the server failed", "If this lasts, see the server's log."],
  [/^4\d\d /, "SERVER_UNSUPPORTED", "operator",
    "the server does not understand the request", "Update the server or this program to the same release."],
  [/Requires net access/, "PERMISSION_MISSING", "operator",
    "Deno did not grant the permission", "Add --allow-net for the host and port, or run with -A."],
  [/dns error|failed to lookup/i, "HOST_NOT_FOUND", "transient",
    "host name not found", "Check the host in the URL, and this machine's DNS."],
  [/connection refused/i, "CONNECTION_REFUSED", "transient",
    "connection refused", "Is `openfinops serve` running there? Check the host and the port."],
  [/unreachable|no route/i, "HOST_UNREACHABLE", "transient",
    "host unreachable", "Check the network."],
  [/corrupt message|InvalidContentType/i, "TLS_REFUSED", "operator",
    "the server does not speak TLS there",
    "Write http:// in the URL, or start the server with a certificate."],
  [/certificate|tls|UnknownIssuer/i, "TLS_FAILED", "operator",
    "the server's certificate is not trusted",
    "Name the certificate of its CA with --ca-file, and check the host in the URL."],
  [/TimeoutError|timed out/i, "CONNECTION_TIMEOUT", "transient",
    "no answer in time", "Check the host, the port and firewalls."],
  [/./, "CONNECTION_LOST", "transient",
    "connection lost", "If this lasts, see the server's log."],
]);

/** Creates the error for what `fetch` threw, or for the status and the words of an answer. */
export function remoteFailure(
  { operation = "write", name, sign, reason, cause }: {
    operation?: string;
    name: string;
    sign: string;
    reason: string;
    cause?: unknown;
  },
): BackendError {
  const row = REMOTE_FAILURES.find(({ match }) => match.test(sign));
  return failureOf(row, { operation, name, reason, cause, otherwise: "transient" });
}

/** Creates the error for an answer that reports success, but is none of `openfinops serve`. */
export function foreignAnswer(
  { status, headers }: Response,
  failure: { operation: string; name: string },
): BackendError {
  const reason = `status ${status}, ${headers.get("content-type") ?? "no content type"}`;
  return remoteFailure({ ...failure, sign: `${status} `, reason });
}

/** Reads a JSON object; empty where it is none, as of a proxy. */
export function readObject(text: string): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" && found !== null ? found as Record<string, unknown> : {};
  } catch {
    return {};
  }
}

/** Sign and reason of what `fetch` threw. Deno names the URL in front of the cause. */
export function signOf(error: unknown): { sign: string; reason: string; cause: unknown } {
  const { name = "", cause } = error as Partial<Error>;
  const reason = messageOf(cause ?? error).replace(/^error sending request .*?\): /, "");
  return { sign: `${name} ${reason}`, reason, cause: error };
}
