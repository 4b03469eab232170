import { createHash } from "node:crypto";

/** The id of a request that has none of its own: its bytes. The same request that is sent again has the same. */
export function requestIdOf(kind: string, body: Uint8Array, tenant = ""): string {
  const hash = createHash("sha256").update(JSON.stringify([kind, tenant])).update(body).digest("base64url");
  return `${kind}/${hash}`;
}
