import { type BackendError, failureOf, type FailureRow, messageOf } from "../../errors.ts";

/**
 * Meaning of failures on the way to an OpenFinOps server. Matched against the status of its answer, or the name of the
 * error and its message. The network may have lost the answer to a batch that was stored: its key lets it be sent again.
 */
export const REMOTE_FAILURES: readonly FailureRow[] = [
  {
    match: /^2\d\d /,
    code: "SERVER_UNSUPPORTED",
    kind: "operator",
    problem: "the answer is not that of an OpenFinOps server",
    remedy: "Check the URL. A proxy, a sign-in page or a captive portal may answer in its place.",
  },
  {
    match: /^401 /,
    code: "TOKEN_REFUSED",
    kind: "operator",
    problem: "the server refuses the token",
    remedy:
      "Create one with `openfinops token create NAME --scope ingest` (to read: `--scope read`), and set " +
      "OPENFINOPS_TOKEN or its file.",
  },
  {
    match: /^403 /,
    code: "SCOPE_MISSING",
    kind: "operator",
    problem: "the token may not do this",
    remedy: "Sending takes the scope `ingest`, and reading `read`.",
  },
  {
    match: /^(404|405) /,
    code: "SERVER_UNSUPPORTED",
    kind: "operator",
    problem: "there is no such route",
    remedy: "Check the URL: it is that of `openfinops serve`, without a path behind its own.",
  },
  {
    match: /^3\d\d /,
    code: "SERVER_UNSUPPORTED",
    kind: "operator",
    problem: "the server redirects",
    remedy: "Use the URL that it redirects to. The token is not sent elsewhere.",
  },
  {
    match: /^413 /,
    code: "BODY_TOO_LARGE",
    kind: "data",
    problem: "the request is too large for the server",
    remedy: "It is split. If one record is too large, raise the limit of the server.",
  },
  {
    match: /^429 /,
    code: "RATE_LIMITED",
    kind: "transient",
    problem: "the server limits the rate of this token",
    remedy: "Wait as long as the server says.",
  },
  {
    match: /^507 /,
    code: "DISK_FULL",
    kind: "disk-full",
    problem: "the server has no space left",
    remedy: "Free some there, or raise `maxSpoolBytes`.",
  },
  {
    match: /^(502|503|504) /,
    code: "SERVER_BUSY",
    kind: "transient",
    problem: "the server is not ready",
    remedy: "If this lasts, see the server's log.",
  },
  {
    match: /^(408|5\d\d) /,
    code: "SERVER_FAILED",
    kind: "transient",
    problem: "the server failed",
    remedy: "If this lasts, see the server's log.",
  },
  {
    match: /^4\d\d /,
    code: "SERVER_UNSUPPORTED",
    kind: "operator",
    problem: "the server does not understand the request",
    remedy: "Update the server or this program to the same release.",
  },
  {
    match: /Requires net access/,
    code: "PERMISSION_MISSING",
    kind: "operator",
    problem: "Deno did not grant the permission",
    remedy: "Add --allow-net for the host and port, or run with -A.",
  },
  {
    match: /dns error|failed to lookup/i,
    code: "HOST_NOT_FOUND",
    kind: "transient",
    problem: "host name not found",
    remedy: "Check the host in the URL, and this machine's DNS.",
  },
  {
    match: /connection refused/i,
    code: "CONNECTION_REFUSED",
    kind: "transient",
    problem: "connection refused",
    remedy: "Is `openfinops serve` running there? Check the host and the port.",
  },
  {
    match: /unreachable|no route/i,
    code: "HOST_UNREACHABLE",
    kind: "transient",
    problem: "host unreachable",
    remedy: "Check the network.",
  },
  {
    match: /corrupt message|InvalidContentType/i,
    code: "TLS_REFUSED",
    kind: "operator",
    problem: "the server does not speak TLS there",
    remedy: "Write http:// in the URL, or start the server with a certificate.",
  },
  {
    match: /certificate|tls|UnknownIssuer/i,
    code: "TLS_FAILED",
    kind: "operator",
    problem: "the server's certificate is not trusted",
    remedy: "Name the certificate of its CA with --ca-file, and check the host in the URL.",
  },
  {
    match: /TimeoutError|timed out/i,
    code: "CONNECTION_TIMEOUT",
    kind: "transient",
    problem: "no answer in time",
    remedy: "Check the host, the port and firewalls.",
  },
  {
    match: /./,
    code: "CONNECTION_LOST",
    kind: "transient",
    problem: "connection lost",
    remedy: "If this lasts, see the server's log.",
  },
];

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
