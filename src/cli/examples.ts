import type { Command } from "./command.ts";
import programs from "./examples.json" with { type: "json" };
import { bold, note, print } from "./output.ts";
import { readName } from "../query/option_values.ts";

export const examples: Command = {
  name: "database examples",
  positionals: "[topic]",
  options: [],
  examples: ["openfinops database examples", "openfinops database examples sqlite > example.ts"],
  run(given) {
    const [topic] = given.positionals;
    const chosen = topic === undefined ? undefined : readName("topic", topic, Object.keys(programs));
    for (const [topic, code] of Object.entries(programs)) {
      if (chosen !== undefined && topic !== chosen) continue;
      if (chosen === undefined) print(bold(`// --- ${topic}.ts`));
      print(code);
    }
    note(
      'To run a program against a checkout, add { "links": ["PATH/TO/CHECKOUT"] } to its deno.json. After the ' +
        "first release: deno add jsr:@openfinops/telemetry",
    );
    return Promise.resolve();
  },
};
