import { timingSafeEqual } from "node:crypto";
import { type Access, type Grant, isLoopbackName } from "./access.ts";
import { RequestError } from "./problems.ts";
import type { Scope } from "./route.ts";
import { hashToken } from "./tokens.ts";

/** Access to a dashboard on loopback: read only, by a secret of the run that its address holds. */
export class DashboardAccess implements Access {
  readonly #hash: Uint8Array;

  /** Takes the secret. */
  constructor(secret: string) {
    this.#hash = hashToken(secret);
  }

  // deno-lint-ignore require-await
  async authorize(request: Request, scope: Scope): Promise<Grant> {
    const { hostname } = new URL(request.url);
    if (!isLoopbackName(hostname)) {
      throw new RequestError("This server answers on loopback only. Open http://127.0.0.1 with its port.", {
        code: "HOST_REFUSED",
      });
    }
    if (scope !== "read") {
      throw new RequestError("A dashboard only reads. Start `openfinops serve` to write.", {
        code: "SCOPE_MISSING",
      });
    }
    const [, token] = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    if (token !== undefined && timingSafeEqual(hashToken(token), this.#hash)) return {};
    throw new RequestError(
      "The request lacks the secret of the dashboard. Open the whole address that `openfinops dashboard` printed.",
      { code: token === undefined ? "TOKEN_MISSING" : "TOKEN_REFUSED" },
    );
  }
}
