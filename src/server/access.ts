import { timingSafeEqual } from "node:crypto";
import { RequestError } from "./problems.ts";
import type { Scope } from "./route.ts";
import { withinLimit } from "../pipeline/time_limit.ts";
import { hashToken, type Token } from "./tokens.ts";

/** Rights of a request. */
export interface Grant {
  /** Id of the token, if one was needed. */
  readonly id?: string;
  /** Value of the label or tag `tenant` that each record of the request gets. */
  readonly tenant?: string;
}

/** Authorizes requests. */
export interface Access {
  /**
   * Checks a request.
   *
   * @throws {RequestError} If it is not authorized.
   */
  authorize(request: Request, scope: Scope): Promise<Grant>;
}

/** Age in milliseconds at which cached tokens are read again. */
const REFRESH_MS = 5_000;
/** Age in milliseconds at which cached tokens are read again for an unknown token, which may be new. */
const REFRESH_UNKNOWN_MS = 250;
/** Longest wait of a request for tokens, in milliseconds. After it, the cached tokens are used. */
const REFRESH_LIMIT_MS = 1_000;

/** Options of {@linkcode TokenAccess}. */
export interface TokenAccessOptions {
  /** Reads all tokens. */
  readonly read: () => Promise<readonly Token[]>;
  /** True to answer without a token until the first one is created: on loopback, or with `--insecure`. */
  readonly isOpen: boolean;
  /**
   * True if the server listens on loopback only. Without a token, it then accepts only loopback names as `Host`.
   *
   * @default {false}
   */
  readonly isLoopback?: boolean;
  /** Called with the id of a token on its first use on a UTC day. */
  readonly onUse?: (id: string, day: string) => void;
}

/** A token with its hash as bytes. */
type KnownToken = Token & { readonly bytes: Uint8Array };

/**
 * Checks bearer tokens. A new token is valid within 250 ms, a revoked or expired one refused within 5 s, without a
 * restart.
 */
export class TokenAccess implements Access {
  readonly #options: TokenAccessOptions;
  readonly #lastUse = new Map<string, string>();
  #tokens: readonly KnownToken[] | undefined;
  /** True once there was a token: losing all does not open the server. */
  #hadToken = false;
  #readAt = -Infinity;
  #reading: Promise<void> | undefined;

  /** Creates the access. Reads no token yet. */
  constructor(options: TokenAccessOptions) {
    this.#options = options;
  }

  /** Checks a request. */
  async authorize(request: Request, scope: Scope): Promise<Grant> {
    const [, secret] = /^Bearer +(\S+) *$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    let tokens = await this.#known(REFRESH_MS);
    if (tokens.length === 0 && secret !== undefined) tokens = await this.#known(REFRESH_UNKNOWN_MS);
    if (tokens.length === 0 && this.#options.isOpen && !this.#hadToken) {
      assertOwnPage(request, this.#options);
      return {};
    }
    if (secret === undefined) {
      throw unauthorized(
        "TOKEN_MISSING",
        "The request has no token. Send the header Authorization: Bearer TOKEN.",
      );
    }
    const hash = hashToken(secret);
    const token = find(tokens, hash) ?? find(await this.#known(REFRESH_UNKNOWN_MS), hash);
    if (token === undefined || token.revokedAt !== undefined || (token.expiresAt ?? Infinity) <= Date.now()) {
      throw unauthorized("TOKEN_REFUSED", "The token is unknown, revoked or expired. Use another.");
    }
    if (!token.scopes.includes(scope)) {
      throw new RequestError(`The token lacks the scope ${scope}. Use one that has it.`, {
        code: "SCOPE_MISSING",
      });
    }
    this.#noteUse(token.id);
    return { id: token.id, tenant: token.tenant };
  }

  #noteUse(id: string): void {
    const day = new Date().toISOString().slice(0, "2026-01-01".length);
    if (this.#lastUse.get(id) === day) return;
    this.#lastUse.set(id, day);
    this.#options.onUse?.(id, day);
  }

  /** Returns the tokens, and reads them again if the cache is older. If that fails, uses the cached ones. */
  async #known(maxAgeMs: number): Promise<readonly KnownToken[]> {
    if (performance.now() - this.#readAt >= maxAgeMs) {
      this.#reading ??= this.#refresh();
      await withinLimit(this.#reading, REFRESH_LIMIT_MS, () => {});
    }
    if (this.#tokens) return this.#tokens;
    throw new RequestError("The tokens cannot be read now. Try again.", { code: "NOT_READY" });
  }

  async #refresh(): Promise<void> {
    try {
      const tokens = await this.#options.read();
      this.#tokens = tokens.map((token) => ({ ...token, bytes: Uint8Array.fromHex(token.hash) }));
      this.#hadToken ||= tokens.length > 0;
    } catch {
      // The cached tokens stay valid; /readyz reports the outage.
    }
    this.#readAt = performance.now();
    this.#reading = undefined;
  }
}

/** Finds a token in constant time: the duration does not show how much of a hash matches. */
function find(tokens: readonly KnownToken[], hash: Uint8Array): KnownToken | undefined {
  let found: KnownToken | undefined;
  for (const token of tokens) if (timingSafeEqual(token.bytes, hash)) found = token;
  return found;
}

function unauthorized(code: "TOKEN_MISSING" | "TOKEN_REFUSED", message: string): RequestError {
  const error = code === "TOKEN_REFUSED" ? ', error="invalid_token"' : "";
  return new RequestError(message, {
    code,
    headers: { "www-authenticate": `Bearer realm="openfinops"${error}` },
  });
}

/**
 * Refuses what a browser sends for a page of another site, where no token protects the server: by a host name that was
 * pointed at loopback (DNS rebinding), or across sites.
 *
 * @throws {RequestError} If the request may come from such a page.
 */
function assertOwnPage(request: Request, { isLoopback = false }: TokenAccessOptions): void {
  const { host, hostname } = new URL(request.url);
  if (isLoopback && !isLoopbackName(hostname)) {
    throw new RequestError("The header Host names another host. Use localhost, or create a token.", {
      code: "HOST_REFUSED",
    });
  }
  const origin = request.headers.get("origin");
  const site = request.headers.get("sec-fetch-site") ?? "none";
  const isOwn = origin === null || (URL.canParse(origin) && new URL(origin).host === host);
  if (isOwn && ["none", "same-origin"].includes(site)) return;
  throw new RequestError("A page of another site sent the request. Use a page of this server.", {
    code: "ORIGIN_REFUSED",
  });
}

/** Returns true if a host name stands for this machine alone. */
export function isLoopbackName(hostname: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, "");
  return name === "localhost" || name.endsWith(".localhost") || name === "::1" ||
    /^127(\.\d{1,3}){3}$/.test(name);
}

/** Lets every request through: for tests and programs that check requests themselves. */
export const OPEN_ACCESS: Access = { authorize: () => Promise.resolve({}) };
