/**
 * Faults at random, for some minutes: `deno task chaos --minutes N [--seed S] [--fault NAME]`. Each ends in an exact
 * comparison of what was acknowledged with what is stored. It prints the seed of each fault; that seed alone brings the same fault
 * again, with the same choices (not with the same timing: the machine has a say in that).
 *
 * @module
 */
import { parseArgs } from "node:util";
import { useDuckdbLibrary } from "../duckdb_library.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { PostgresServer, TestDatabase } from "../postgres_server.ts";
import { CitusCluster } from "../citus_cluster.ts";
import { Chance } from "./chance.ts";
import { CRASH_SIZES, crashCluster, crashCommit, crashPreparedWorker, MOMENTS, RECOVERY } from "./citus.ts";
import { killImport } from "./deliveries.ts";
import { fuzzIntake } from "./intake.ts";
import { killNotifier } from "./notifications.ts";
import { killAgents, killServers } from "./servers.ts";
import {
  breakNetwork,
  closeInOutage,
  crashServer,
  displaceSpool,
  endSessions,
  failServer,
  fillDisk,
  killWriter,
  leakNothing,
  lockFile,
  outlastBuffers,
  poison,
} from "./scenarios.ts";

const OVERFLOW = ["block", "drop-oldest", "drop-newest"] as const;

/** Runs something with the connection string of an empty database, of any of these kinds. */
async function withDatabase(
  chance: Chance,
  run: (connectionString: string) => Promise<void>,
  kinds: readonly ("server" | "sqlite" | "duckdb")[] = ["server", "sqlite"],
): Promise<void> {
  const kind = chance.of(kinds);
  if (kind === "server") {
    await using database = await TestDatabase.create();
    await run(database.url);
  } else {
    using folder = new TemporaryFolder();
    await run(`${kind}:///${folder.file(`test.${kind}`)}`);
  }
}

/** Runs something with a cluster of its own, where this machine has Citus. */
async function withCluster(
  run: (cluster: CitusCluster) => Promise<void>,
  settings: readonly string[] = [],
): Promise<void> {
  await using cluster = await CitusCluster.start({ settings });
  if (cluster) await run(cluster);
  else console.log("This machine has no Citus:");
}

const flip = (chance: Chance) => chance.next() < 0.5;

const FAULTS: Readonly<Record<string, (chance: Chance) => Promise<void>>> = {
  killWriter: (chance) =>
    withDatabase(
      chance,
      (connectionString) => killWriter(chance, { connectionString, kills: chance.between(3, 12) }),
    ),
  killDuckdb: (chance) =>
    withDatabase(chance, (connectionString) => killWriter(chance, { connectionString, kills: 50 }), [
      "duckdb",
    ]),
  killImport: (chance) =>
    withDatabase(chance, (connectionString) => killImport(chance, { connectionString, kills: 30 }), [
      "server",
      "sqlite",
      "duckdb",
    ]),
  killNotifier: (chance) =>
    withDatabase(chance, (connectionString) => killNotifier(chance, { connectionString, kills: 30 })),
  killServers: (chance) =>
    withDatabase(chance, async (connectionString) => {
      const servers = connectionString.startsWith("sqlite") ? 1 : chance.between(1, 3);
      await killServers(chance, { connectionString, servers, kills: 50 });
    }),
  killAgents: (chance) =>
    withDatabase(chance, async (connectionString) => {
      await killAgents(chance, { connectionString, agents: chance.between(1, 4), kills: 30 });
    }),
  crashServer: (chance) => crashServer(chance, { crashes: chance.between(1, 4), spool: flip(chance) }),
  crashCluster: (chance) =>
    withCluster((cluster) => crashCluster(chance, cluster, { crashes: chance.between(2, 10) }), [RECOVERY]),
  crashCommit: (chance) =>
    withCluster((cluster) => crashCommit(cluster, chance.of(MOMENTS), chance.of(CRASH_SIZES))),
  crashPreparedWorker: (chance) =>
    withCluster((cluster) => crashPreparedWorker(cluster, chance.of(CRASH_SIZES)), [RECOVERY]),
  breakNetwork: (chance) => breakNetwork(chance, { faults: chance.between(3, 30) }),
  endSessions: (chance) => endSessions(chance, { forMs: chance.between(200, 3_000) }),
  failServer: (chance) => failServer(chance, { forMs: chance.between(200, 20_000) }),
  displaceSpool: (chance) =>
    withDatabase(
      chance,
      (connectionString) => displaceSpool(chance, { connectionString, harms: chance.between(1, 10) }),
    ),
  lockFile: (chance) => lockFile(chance, { locks: chance.between(2, 8) }),
  outlastBuffers: (chance) => outlastBuffers(chance, { overflow: chance.of(OVERFLOW), spool: flip(chance) }),
  closeInOutage: (chance) => closeInOutage(chance, { spool: flip(chance) }),
  poison: (chance) =>
    withDatabase(chance, (connectionString) => {
      const share = chance.of([0.001, 0.01, 0.1, 1]);
      const records = chance.between(1, share === 1 ? 100 : 2_000);
      return poison(chance, { connectionString, records, share, spool: flip(chance) });
    }),
  leakNothing: (chance) => leakNothing(chance, { strings: 10_000 }),
  fuzzIntake: (chance) => fuzzIntake(chance, { rounds: 10_000 }),
  fillDisk: async (chance) => {
    const said = await fillDisk(chance.of(["spool", "shared", "sqlite", "duckdb"]));
    if (said !== "done") throw new Error(said);
  },
};

/** Causes the fault that a seed stands for. */
async function cause(seed: number): Promise<void> {
  const chance = new Chance(seed);
  const name = fault ?? chance.of(Object.keys(FAULTS));
  const start = performance.now();
  const shown = `--seed ${String(seed).padEnd(10)}  ${name.padEnd(14)}`;
  try {
    await FAULTS[name](chance);
    console.log(`${shown}  ok  ${Math.round(performance.now() - start)} ms`);
  } catch (error) {
    console.log(`${shown}  FAILED`);
    throw error;
  }
}

const { values } = parseArgs({
  options: { minutes: { type: "string" }, seed: { type: "string" }, fault: { type: "string" } },
});
const { fault } = values;
const minutes = Number(values.minutes ?? (values.seed === undefined ? 1 : 0));
const given = values.seed === undefined ? undefined : Number(values.seed);
const isFault = fault === undefined || Object.hasOwn(FAULTS, fault);
if (!(minutes >= 0) || (given !== undefined && !Number.isSafeInteger(given)) || !isFault) {
  console.error(
    "deno task chaos --minutes N [--seed S] [--fault NAME]: N is a number, S is a whole number, and NAME is one of " +
      Object.keys(FAULTS).join(", "),
  );
  Deno.exit(2);
}
const seeds = new Chance(given ?? crypto.getRandomValues(new Uint32Array(1))[0]);
console.log(`Seed ${seeds.seed}: replay all with --minutes ${minutes} --seed ${seeds.seed}`);
await using server = await PostgresServer.start();
Deno.env.set("TEST_POSTGRESQL_URL", server.url());
await useDuckdbLibrary();
const end = performance.now() + minutes * 60_000;
if (minutes === 0) await cause(seeds.seed); // the seed of one fault
else while (performance.now() < end) await cause(seeds.between(0, 2 ** 32));
