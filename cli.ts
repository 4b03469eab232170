/**
 * The `openfinops` command: collects this machine's telemetry and looks after databases of telemetry.
 *
 * ```sh
 * deno run -A cli.ts --help
 * ```
 *
 * @module
 */
import { main } from "./src/cli/main.ts";
import { sendConsoleToStderr } from "./src/console.ts";

if (import.meta.main) {
  sendConsoleToStderr(); // nothing but results reaches stdout
  Deno.exitCode = await main(Deno.args);
}
