import { foreignAnswer, readObject, remoteFailure, signOf } from "../backends/remote/failures.ts";
import { BackendError } from "../errors.ts";
import type { Command } from "./command.ts";
import { readUrl } from "../query/option_values.ts";
import { print } from "./output.ts";
import { CA_OPTION } from "./environment.ts";
import { readCaCerts } from "./remote_server.ts";

/** Probe of a server with default options. */
const DEFAULT_URL = "http://127.0.0.1:8430/readyz";
/** Time limit of a probe, in milliseconds. */
const TIMEOUT_MS = 5_000;

/** `openfinops probe`: the health check of containers, whose images have no other program. */
export const probe: Command = {
  name: "probe",
  positionals: "[URL]",
  options: [CA_OPTION],
  examples: ["openfinops probe", "openfinops probe http://127.0.0.1:9464/readyz"],
  async run(given) {
    const url = readUrl("URL", given.positionals[0] ?? DEFAULT_URL);
    if (url.pathname === "/") url.pathname = "/readyz";
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const failure = { operation: "reach", name: url.href };
    const caCerts = readCaCerts(given);
    using client = caCerts && Deno.createHttpClient({ caCerts });
    const response = await fetch(url, { signal, redirect: "manual", client }).catch((error) => {
      throw remoteFailure({ ...failure, ...signOf(error) });
    });
    const text = await response.text().catch(() => "");
    if (response.ok) {
      if (readObject(text).status === undefined) throw foreignAnswer(response, failure);
      return print(`Ready: ${url.href}`);
    }
    throw new BackendError(
      `Not ready: ${url.href} answers ${response.status}. ${text.slice(0, 500)}`.trimEnd(),
      {
        code: "UNHEALTHY",
        operation: "probe",
        kind: "operator",
      },
    );
  },
};
