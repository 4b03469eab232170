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

if (import.meta.main) Deno.exitCode = await main(Deno.args);
