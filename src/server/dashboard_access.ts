import { createHash, timingSafeEqual } from "node:crypto";
import type { Access, Grant } from "./access.ts";
import { RequestError } from "./problems.ts";
import type { Scope } from "./route.ts";

/** Names of this machine in the `Host` header. A page of another site that resolves to loopback has its own name. */
const LOOPBACK = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/i;

/** Access to a dashboard on loopback: read only, by a secret of the run that its address holds. */
export class DashboardAccess implements Access {
  readonly #hash: Uint8Array;

  /** Takes the secret. */
  constructor(secret: string) {
    this.#hash = hashOf(secret);
  }

  // deno-lint-ignore require-await
  async authorize(request: Request, scope: Scope | "none"): Promise<Grant> {
    const { host } = new URL(request.url);
    if (!LOOPBACK.test(host)) {
      throw new RequestError("This server answers on loopback only. Open http://127.0.0.1 with its port.", {
        code: "HOST_REFUSED",
      });
    }
    if (scope === "none") return {};
    if (scope !== "read") {
      throw new RequestError("A dashboard only reads. Start `openfinops serve` to write.", {
        code: "SCOPE_MISSING",
      });
    }
    const [, token] = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    if (token !== undefined && timingSafeEqual(hashOf(token), this.#hash)) return {};
    throw new RequestError("Open the whole address that `openfinops dashboard` printed.", {
      code: token === undefined ? "TOKEN_MISSING" : "TOKEN_REFUSED",
    });
  }
}

function hashOf(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}
