import { createHash, randomBytes } from "node:crypto";
import type { DocumentStore } from "../backends/backend.ts";
import { ConfigError, describe } from "../errors.ts";
import { cannotRead } from "../named_file.ts";
import { parseTime } from "../records/time_text.ts";
import type { Scope } from "./route.ts";

/** Kind of documents that are tokens, by id. Not among those of monitoring, which a token may read. */
const TOKEN = "token";
/** Kind of documents that hold the UTC day on which a token was used last: `{ day }`, by its id. */
const TOKEN_USE = "token_use";
/** Prefix of each token, by which people and secret scanners recognize it. */
export const PREFIX = "ofp_";
/** Characters of the hash that name a token. */
const ID_LENGTH = 12;
/** Characters that a token in a file must have at least. */
const MIN_LENGTH = 24;

/** Scopes that a token may have. */
export const SCOPES: readonly Scope[] = ["ingest", "read", "admin"];

/** A token as it is stored: everything but its secret. */
export interface Token {
  /** First characters of the hash. */
  readonly id: string;
  /** Name for people; several tokens may share one while they are rotated. */
  readonly name: string;
  /** Rights. */
  readonly scopes: readonly Scope[];
  /** SHA-256 of the token, as hexadecimal digits. A token has 256 random bits, so the hash needs no salt. */
  readonly hash: string;
  /** Value of the label or tag `tenant` of each record sent with it. */
  readonly tenant?: string;
  /** Time of its creation, in epoch milliseconds. */
  readonly createdAt?: number;
  /** Time from which it is refused. */
  readonly expiresAt?: number;
  /** Time at which it was revoked. It stays, so that a server does not become open with its last token. */
  readonly revokedAt?: number;
}

/** Returns the SHA-256 of a token. */
export function hashToken(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}

/** Creates a token. The returned secret is not stored. */
export function createToken(
  fields: Pick<Token, "name" | "scopes" | "tenant" | "expiresAt">,
): { token: Token; secret: string } {
  const secret = PREFIX + randomBytes(32).toString("base64url");
  return { token: { ...describeSecret(secret), ...fields, createdAt: Date.now() }, secret };
}

function describeSecret(secret: string): Pick<Token, "id" | "hash"> {
  const hash = new Uint8Array(hashToken(secret)).toHex();
  return { id: hash.slice(0, ID_LENGTH), hash };
}

/** Reads the tokens of a database, the oldest first. */
export async function readTokens(documents: DocumentStore): Promise<Token[]> {
  const tokens = (await documents.read(TOKEN)).map(({ body }) => body as Token);
  return tokens.sort((a, b) => (a.createdAt ?? 0) - (b.createdAt ?? 0));
}

/** Stores a token, new or changed. */
export async function writeToken(documents: DocumentStore, token: Token): Promise<void> {
  await documents.write({ kind: TOKEN, id: token.id, body: token });
}

/** Reads the UTC day on which each token was used last, by its id. */
export async function readLastUse(documents: DocumentStore): Promise<Map<string, string>> {
  const uses = await documents.read(TOKEN_USE);
  return new Map(uses.map(({ id, body }) => [id, (body as { day: string }).day]));
}

/** Stores that a token was used on a UTC day. Not in its own document, which may be revoked at the same time. */
export async function writeLastUse(documents: DocumentStore, id: string, day: string): Promise<void> {
  await documents.write({ kind: TOKEN_USE, id, body: { day } });
}

/**
 * Reads the tokens of a file: a JSON array of objects with `name`, `token`, `scopes`, and perhaps `tenant` and `expires`.
 *
 * @throws {ConfigError} If it cannot be read.
 */
export async function readTokensFile(path: string): Promise<Token[]> {
  const fail = (reason: string) =>
    new ConfigError(`Cannot read tokens from ${path}: ${reason}. Correct the file.`, {
      code: "INVALID_OPTION",
    });
  let entries: unknown;
  const text = await Deno.readTextFile(path).catch((error) => {
    throw cannotRead(error, path, "the tokens");
  });
  try {
    entries = JSON.parse(text);
  } catch {
    throw fail("it is not JSON"); // not its content
  }
  if (!Array.isArray(entries)) throw fail("it is not a JSON array");
  return entries.map((entry, i) => readEntry(entry, (reason) => fail(`entry ${i + 1}: ${reason}`)));
}

function readEntry(entry: unknown, fail: (reason: string) => Error): Token {
  const { name, token, scopes, tenant, expires, ...others } = Object(entry) as Record<string, unknown>;
  const [other] = Object.keys(others);
  if (other !== undefined) throw fail(`unknown field ${describe(other)}`);
  if (typeof name !== "string" || name === "") throw fail("name must be a text");
  if (typeof token !== "string" || token.length < MIN_LENGTH || /\s/.test(token)) {
    throw fail(`token must be a text of at least ${MIN_LENGTH} characters without spaces`);
  }
  if (!Array.isArray(scopes) || scopes.length === 0 || scopes.some((scope) => !SCOPES.includes(scope))) {
    throw fail(`scopes must be an array with some of ${SCOPES.join(", ")}`);
  }
  if (tenant !== undefined && typeof tenant !== "string") throw fail("tenant must be a text");
  assertTenantScopes(tenant, scopes, fail);
  const expiresAt = expires === undefined ? undefined : parseTime(String(expires));
  if (expires !== undefined && expiresAt === undefined) {
    throw fail("expires must be a time such as 2027-01-01T00:00:00Z");
  }
  return { ...describeSecret(token), name, scopes, tenant, expiresAt };
}

/** Refuses a tenant beside the scope whose requests are about all tenants. */
export function assertTenantScopes(
  tenant: string | undefined,
  scopes: readonly Scope[],
  fail: (reason: string) => Error,
): void {
  if (tenant === undefined || !scopes.includes("admin")) return;
  throw fail("a token with a tenant cannot have the scope admin, which is about all tenants");
}
