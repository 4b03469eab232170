import type { Scope } from "./route.ts";

/** Rights of a request. */
export interface Grant {
  /** Value of the label that each record of the request gets. */
  readonly tenant?: string;
}

/** Decides who may do what. */
export interface Access {
  /**
   * Checks a request.
   *
   * @throws {RequestError} If it may not.
   */
  authorize(request: Request, scope: Scope | "none"): Promise<Grant>;
}

/** Lets every request through: for loopback. */
export const OPEN_ACCESS: Access = { authorize: () => Promise.resolve({}) };
