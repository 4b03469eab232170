import { ValidationError } from "../errors.ts";
import {
  conflict,
  invalidValue,
  missing,
  readDurationMs,
  readName,
  UsageError,
} from "../query/option_values.ts";
import { parseSpan } from "../records/time_text.ts";
import type { Scope } from "../server/route.ts";
import {
  assertTenantScopes,
  createToken,
  PREFIX,
  readLastUse,
  readTokens,
  SCOPES,
  type Token,
  writeToken,
} from "../server/tokens.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { asCalled } from "./program_name.ts";
import { isoTime, note, print, printFound } from "./output.ts";

export const tokenCreate: Command = {
  name: "token create",
  positionals: "<name>",
  missing: "Name the token, as in openfinops token create agents --scope ingest.",
  options: [
    ...CONNECTION_OPTIONS,
    ...optionsOf({
      "scope NAME ...": `${SCOPES.join(", ")}; several separated by commas`,
      "tenant NAME": "label or tag `tenant` of all records that it writes or reads",
      "expires TIME": "from now, as in 90d, or a date (default: never)",
    }),
  ],
  examples: [
    "openfinops token create agents --scope ingest",
    "openfinops token create grafana --scope read --expires 365d",
    "openfinops token create team-nlp --scope ingest,read --tenant nlp",
  ],
  async run(given) {
    const [name] = given.positionals;
    const { token, secret } = createToken({ name, ...readRights(given) });
    const others = await withBackend(given, "create", async ({ documents }) => {
      const tokens = await readTokens(documents);
      await writeToken(documents, token);
      return tokens.filter((other) => other.name === name && stateOf(other) === "active");
    });
    print(secret);
    note(`Created ${token.id} (${name}). The token above is not shown again: keep it in a secret store.`);
    for (const { id } of others) {
      note(asCalled(`${id} has the same name and stays valid. To revoke it: openfinops token revoke ${id}`));
    }
  },
};

export const tokenList: Command = {
  name: "token list",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS],
  examples: ["openfinops token list"],
  async run(given) {
    const format = readFormat(given);
    await withBackend(given, "read", async ({ documents }) => {
      const [tokens, lastUse] = [await readTokens(documents), await readLastUse(documents)];
      const found = tokens.map(({ hash: _hash, ...token }) => ({
        id: token.id,
        name: token.name,
        scopes: token.scopes.join(" "),
        tenant: token.tenant,
        state: stateOf(token),
        created: timeText(token.createdAt),
        expires: timeText(token.expiresAt),
        lastUsed: lastUse.get(token.id),
      }));
      const header = ["id", "name", "scopes", "tenant", "state", "created", "expires", "lastUsed"];
      printFound(format, found, { header, none: "There are no tokens." });
    });
  },
};

export const tokenRevoke: Command = {
  name: "token revoke",
  positionals: "<id or name>",
  missing: "Name the token, as in openfinops token revoke agents.",
  options: CONNECTION_OPTIONS,
  examples: ["openfinops token revoke agents"],
  async run(given) {
    const [name] = given.positionals;
    await withBackend(given, "existing", async ({ documents }) => {
      const token = findToken(await readTokens(documents), name);
      await writeToken(documents, { ...token, revokedAt: Date.now() });
      note(`Revoked ${token.id} (${token.name}). Servers refuse it within 5 s.`);
    });
  },
};

function readRights(given: Arguments): Pick<Token, "scopes" | "tenant" | "expiresAt"> {
  const names = given.texts("scope").flatMap((text) => text.split(","));
  if (names.length === 0) {
    throw missing("Say what the token is for, as in --scope ingest, --scope read or --scope admin.");
  }
  const scopes = [...new Set<Scope>(names.map((name) => readName("scope", name, SCOPES)))];
  const tenant = given.text("tenant");
  assertTenantScopes(
    tenant,
    scopes,
    (reason) => conflict(`Cannot create the token: ${reason}.`),
  );
  return { scopes, tenant, expiresAt: readExpiry(given.text("expires")) };
}

function readExpiry(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const isDuration = /^[\d.]+[a-z]+$/.test(text);
  const time = isDuration
    ? Date.now() + readDurationMs("expires", text)
    : parseSpan(text, { timeZone: "UTC" })?.start;
  if (time === undefined) {
    throw invalidValue("expires", "a time from now such as 90d, or a date such as 2027-01-31", text);
  }
  if (time > Date.now()) return time;
  throw new UsageError("--expires must be in the future.", "INVALID_OPTION");
}

function stateOf({ revokedAt, expiresAt = Infinity }: Pick<Token, "revokedAt" | "expiresAt">): string {
  return revokedAt !== undefined ? "revoked" : expiresAt <= Date.now() ? "expired" : "active";
}

function timeText(time: number | undefined): string | undefined {
  return time === undefined ? undefined : isoTime(time);
}

/** Finds a token by its id, or by a name that only one active token has. */
function findToken(tokens: readonly Token[], name: string): Token {
  const active = tokens.filter((token) => token.revokedAt === undefined);
  const found = active.filter((token) => token.id === name);
  if (found.length === 0) found.push(...active.filter((token) => token.name === name));
  if (found.length === 1) return found[0];
  const expected = found.length === 0
    ? "the id or name of a token that is not revoked; `openfinops token list` shows them"
    : `an id, as several tokens have this name: ${found.map(({ id }) => id).join(", ")}`;
  throw new ValidationError({
    subject: "a token",
    field: "token",
    value: name.startsWith(PREFIX) ? "a token that is not shown" : name, // it would stay in logs
    expected,
    code: found.length === 0 ? "NOT_FOUND" : "INVALID_FIELD",
  });
}
