import { BackendError, ConfigError, type ErrorCode, ValidationError } from "../errors.ts";
import { UsageError } from "../query/usage_error.ts";
import { TransferError } from "../transfer/transfer_error.ts";

/** Status of HTTP of each code that a client can cause or must know. All other errors are 500. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  TOKEN_MISSING: 401,
  TOKEN_REFUSED: 401,
  SCOPE_MISSING: 403,
  ORIGIN_REFUSED: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  BODY_TIMEOUT: 408,
  ALREADY_EXISTS: 409,
  DELIVERY_REFUSED: 409,
  KEY_CLASH: 409,
  BODY_TOO_LARGE: 413,
  UNSUPPORTED_ENCODING: 415,
  UNSUPPORTED_FORMAT: 415,
  HOST_REFUSED: 421,
  IDEMPOTENCY_KEY_REUSED: 422,
  LINES_REJECTED: 422,
  RATE_LIMITED: 429,
  INTERRUPTED: 499, // as nginx counts clients that are gone
  SERVER_BUSY: 503,
  NOT_READY: 503,
  // The backend cannot be reached now, and the same request may succeed later.
  CONNECTION_LOST: 503,
  CONNECTION_REFUSED: 503,
  CONNECTION_TIMEOUT: 503,
  HOST_NOT_FOUND: 503,
  HOST_UNREACHABLE: 503,
  SERVER_STARTING: 503,
  SERVER_STOPPED: 503,
  SERVER_OVERLOADED: 503,
  TOO_MANY_CONNECTIONS: 503,
  STATEMENT_TIMEOUT: 503,
  LOCKED: 503,
  CLOSED: 503,
  DISK_FULL: 507,
};

/** Seconds after which a client may try again, where no error says more. */
const RETRY_AFTER_SECONDS = 1;

/** Error of a request. Its code decides the HTTP status. */
export class RequestError extends Error {
  /** Always `"RequestError"`. */
  override readonly name = "RequestError";
  /** Stable name of the error. */
  readonly code: ErrorCode;
  /** Headers of the response. */
  readonly headers: Readonly<Record<string, string>>;
  /** Further fields of `error` in the response, such as lines. */
  readonly details: Readonly<Record<string, unknown>>;

  /** Creates the error: what happened, then what to do. */
  constructor(
    message: string,
    { code, headers = {}, details = {} }: {
      code: ErrorCode;
      headers?: Readonly<Record<string, string>>;
      details?: Readonly<Record<string, unknown>>;
    },
  ) {
    super(message);
    this.code = code;
    this.headers = headers;
    this.details = details;
  }
}

/** Creates the error of a method that a path does not have. */
export function methodRefusal(methods: string): RequestError {
  return new RequestError(`This path does not support the method. Use ${methods}.`, {
    code: "METHOD_NOT_ALLOWED",
    headers: { allow: methods },
  });
}

/** Creates the error of records that the server cannot store now. */
export function cannotStore(): RequestError {
  return new RequestError(
    "The server cannot store records now: its buffer is full, or its database does not answer. Send the same request again.",
    { code: "SERVER_BUSY" },
  );
}

/** Errors in what a client has sent. */
const INVALID = [RequestError, ValidationError, UsageError, TransferError, ConfigError] as const;

/** Most bytes of a body that is sent at once. */
const MAX_WHOLE_BYTES = 65_536;

/** Creates a response with JSON whose length is known, so that it is sent at once and not as a stream. */
export function jsonResponse(
  text: string,
  { status, headers = {} }: { status: number; headers?: Readonly<Record<string, string>> },
): Response {
  const body = new TextEncoder().encode(text);
  const own = { "content-type": "application/json", "content-length": String(body.length) };
  return new Response(body, { status, headers: { ...headers, ...own } });
}

/** Returns true if the body of a response is small and in memory. */
export function isWhole({ headers }: Response): boolean {
  const length = headers.get("content-length");
  return length !== null && Number(length) <= MAX_WHOLE_BYTES;
}

/** Writes an error as `{ "error": { "code", "message" } }`. Hides the message of an unknown error: it may have a secret. */
export function problem(error: unknown): Response {
  const { code, message, details = {}, headers = {} } = describeProblem(error);
  const status = STATUS[code] ?? (isInvalid(error) ? 400 : 500);
  const text = JSON.stringify({ error: { code, message, ...details } });
  return withRetryAfter(jsonResponse(text, { status, headers }));
}

/** Writes a problem in the form of another protocol. */
export async function restate(
  problem: Response,
  { status, type, write }: { status: number; type: string; write: (message: string) => BodyInit },
): Promise<Response> {
  const { error } = await problem.json() as { error: { message: string } };
  const headers = new Headers(problem.headers);
  headers.delete("content-length");
  headers.set("content-type", type);
  return withRetryAfter(new Response(write(error.message), { status, headers }));
}

function withRetryAfter(response: Response): Response {
  if ([429, 503].includes(response.status) && !response.headers.has("retry-after")) {
    response.headers.set("retry-after", String(RETRY_AFTER_SECONDS));
  }
  return response;
}

function isInvalid(error: unknown): error is InstanceType<typeof INVALID[number]> {
  return INVALID.some((kind) => error instanceof kind);
}

export function codeOf(error: unknown): ErrorCode {
  return describeProblem(error).code;
}

function describeProblem(error: unknown): Pick<RequestError, "code" | "message"> & Partial<RequestError> {
  if (error instanceof RequestError) return error;
  if (error instanceof ValidationError) {
    return { code: error.code, message: error.message, details: { field: error.field } };
  }
  if (error instanceof BackendError || isInvalid(error)) return { code: error.code, message: error.message };
  return { code: "BACKEND_FAILED", message: "The request failed. The log of the server has the cause." };
}
