/** The guide docs/model-costs.md, run as it stands. */
import { assert, assertEquals } from "./assert.ts";
import { openfinops } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const GUIDE = Deno.readTextFileSync(`${ROOT}docs/model-costs.md`);

/** The commands of the guide, each with the output that it shows, if it does. */
const STEPS = [...GUIDE.matchAll(/```sh\n([\s\S]*?)```(?:\n\n```text\n([\s\S]*?)```)?/g)]
  .flatMap(([, commands, output]) =>
    commands.trim().split("\n").map((command, i, all) => ({
      args: command.split(" ").slice(1),
      output: i === all.length - 1 ? output : undefined,
    }))
  );

/**
 * Computed from the files of examples/model-costs by a program in Python with Decimal: the cost of each group in units
 * of 10⁻¹⁸, divided by largest remainder, and of a million tokens.
 */
const COMPUTED = [
  "llama-70b         USD       1434.7346  30.4 %  290,585,616  4.937390293950406685",
  "llama-70b-tuning  USD         560.424  11.9 %",
  "bge-large         USD         57.1485   1.2 %  960,000,276  0.059529670385219764",
  "(idle)            USD       2667.0529  56.5 %",
  "(total)           USD         4719.36",
  "USD            0  9.6550395",
];

async function follow(connectionString: string): Promise<void> {
  const env = { OPENFINOPS_CONNECTION_STRING: connectionString, NO_COLOR: "1" };
  for (const { args, output } of STEPS) {
    const { code, out, err } = await openfinops(args, { cwd: ROOT, env });
    assertEquals(code, 0, `${args.join(" ")}: ${err}`);
    if (output !== undefined) assertEquals(out, output, args.join(" "));
  }
}

Deno.test("docs/model-costs.md shows what its commands print on SQLite, and what Python computes", async () => {
  assert(STEPS.filter(({ output }) => output !== undefined).length >= 6);
  for (const line of COMPUTED) assert(GUIDE.includes(`\n${line}\n`), line);
  using folder = new TemporaryFolder();
  await follow(folder.sqlite());
});

Deno.test("docs/model-costs.md shows what its commands print on PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  await follow(database.url);
});
