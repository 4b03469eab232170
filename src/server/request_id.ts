import { createHash } from "node:crypto";

/** Returns the id of a request without an idempotency key: a hash of its bytes. A repeated request has the same. */
export function requestIdOf(kind: string, body: Uint8Array, tenant = ""): string {
  const hash = createHash("sha256").update(JSON.stringify([kind, tenant])).update(body).digest("base64url");
  return `${kind}/${hash}`;
}
