import { program } from "../peers.ts";
import { Shell, Subject } from "../processes.ts";
import { type Question, QUESTIONS } from "../questions.ts";
import type { Family, Row } from "../row.ts";

const RECORDS = 5_000_000;
/** The part of the records that there are cost entries. */
const COSTS = 0.2;

const ENGINES = [
  { backend: "sqlite", title: "SQLite", peer: "sqlite3" },
  { backend: "postgresql", title: "PostgreSQL", peer: "psql" },
  { backend: "timescaledb", title: "compressed records in TimescaleDB, nothing rolled up", peer: "psql" },
] as const;

/** The sessions on both sides stay open, and each has been asked once before. */
function row(name: string, question: Question, { backend, title, peer }: typeof ENGINES[number]): Row[] {
  const sql = question[backend === "timescaledb" ? "postgresql" : backend];
  if (sql === undefined) return [];
  return [{
    name: `answers-${name}-${backend}`,
    work: `${question.title}, ${title}`,
    against: `plain SQL in \`${peer}\``,
    quantity: "time",
    records: RECORDS,
    reach: { atMost: 1.1 },
    open: async (places, records) => {
      await program(peer);
      const connectionString = await places.filled(backend, {
        system_metrics: records,
        cost_entries: Math.ceil(records * COSTS),
      });
      const subject = places.use(Subject.deno());
      const shell = places.use(
        backend === "sqlite"
          ? await Shell.sqlite(connectionString.replace("sqlite:///", ""))
          : await Shell.psql(connectionString),
      );
      const url = connectionString.replace("postgresql:", `${backend}:`);
      const order = { what: "answer", connectionString: url, question: name } as const;
      return {
        ours: async () => (await subject.do(order)).seconds,
        theirs: () => shell.run(`${sql};`),
      };
    },
  }];
}

/** Time of aggregates. */
export const answerRows: Family = {
  name: "answers",
  rows: ENGINES.flatMap((engine) =>
    Object.entries(QUESTIONS).flatMap(([name, question]) => row(name, question, engine))
  ),
};
