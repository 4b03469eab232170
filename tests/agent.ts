/** `openfinops collect`, running. */
import { type Running, startCommand } from "./command.ts";

/** A line of a log in JSON. */
export interface LogLine {
  readonly time: string;
  readonly level: "info" | "warn" | "error";
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A running agent. */
export type Agent = Running;

/** Starts `openfinops collect` with an interval of 100 ms. */
export function startAgent(
  args: readonly string[],
  options: { cwd: string; env?: Record<string, string>; run?: readonly string[] },
): Agent {
  return startCommand(["collect", "--interval", "100ms", ...args], options);
}
