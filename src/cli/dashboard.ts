import { openBackend } from "../open_backend.ts";
import { ObservabilityHub } from "../hub.ts";
import { CostObservatory } from "../observatory.ts";
import { readCount, readOption } from "../query/option_values.ts";
import { TokenAccess } from "../server/access.ts";
import { createApp } from "../server/app.ts";
import { ROUTES } from "../server/routes.ts";
import { serve } from "../server/serve.ts";
import { createToken } from "../server/tokens.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, readConfig } from "./command.ts";
import { note, print } from "./output.ts";
import { noteFailure } from "./serve.ts";
import { listenForStop, openUnlessStopped, stopped } from "./stop.ts";

/** Port where none is given. */
const DEFAULT_PORT = 8431;
/** Time that requests get at the end, in milliseconds. */
const DEADLINE_MS = 1_000;

export const dashboard: Command = {
  name: "dashboard",
  options: [
    ...CONNECTION_OPTIONS,
    { name: "port", value: "N", summary: `port on 127.0.0.1; 0 for a free one (default ${DEFAULT_PORT})` },
  ],
  examples: [
    "openfinops dashboard",
    "openfinops dashboard --port 0 --connection-string postgresql://db.example/telemetry",
  ],
  async run(given) {
    const port = readOption(given, "port", readCount) ?? DEFAULT_PORT;
    const config = readConfig(given);
    using stop = listenForStop();
    const backend = await openUnlessStopped(openBackend(config, { mode: "read" }), stop.signal);
    try {
      const hub = await ObservabilityHub.open({ backend });
      const costs = await CostObservatory.open({ backend });
      const { token, secret } = createToken({ name: "dashboard", scopes: ["read"] });
      const routes = ROUTES.filter(({ method, scope }) =>
        method === "GET" && ["none", "read"].includes(scope)
      );
      const app = createApp({ hub, costs, backend, config: { ...config, backend } }, {
        access: new TokenAccess({ read: () => Promise.resolve([token]), isOpen: false }),
        routes,
        onAnswer: noteFailure,
      });
      const listening = await serve(app, { hostname: "127.0.0.1", port });
      note(`Listening on ${listening.url} for ${databaseName(given)}, read only. Open in a browser:`);
      print(`${listening.url}#token=${secret}`);
      await stopped(stop.signal);
      await listening.close({ deadlineMs: DEADLINE_MS });
      await hub.close();
      await costs.close();
    } finally {
      await backend.close();
    }
  },
};
