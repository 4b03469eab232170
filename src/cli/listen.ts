import { invalidValue } from "../query/option_values.ts";

export interface ListenAddress {
  readonly hostname: string;
  /** Port; 0 for a free one. */
  readonly port: number;
}

/**
 * Reads `HOST:PORT`, `[::1]:PORT`, `:PORT` for all addresses, or `PORT` on loopback.
 *
 * @throws {UsageError} If it is none.
 */
export function readListen(text: string): ListenAddress {
  const [, host, digits] = /^(?:(\[[\da-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw invalidValue("listen", "HOST:PORT such as 127.0.0.1:8430 or 0.0.0.0:8430", text);
  }
  if (host === undefined) return { hostname: "127.0.0.1", port };
  return { hostname: host === "" ? "0.0.0.0" : host.replace(/^\[|\]$/g, ""), port };
}
