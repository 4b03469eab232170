import { cpus, totalmem } from "node:os";
import type { GrowthResult } from "./growth.ts";
import { versions } from "./peers.ts";
import type { RowResult } from "./row.ts";

const FILE = new URL("results.json", import.meta.url);

/** All results, and the machine. */
export interface Results {
  /** Its parts and programs, with their sizes and versions. */
  readonly machine: Readonly<Record<string, string>>;
  readonly rows: readonly RowResult[];
  readonly growth: readonly GrowthResult[];
}

/** The results of all rows as they were measured last, in `results.json`; none if there is no such file. */
export function readResults(): Results | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(FILE));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Facts that identify a machine; each row adds the versions that it used. */
const MACHINE = ["cores", "memory", "system", "deno"];

/** Writes what was measured into `results.json`, in place of what was there of the same names and machine. */
export function mergeResults(found: Results): Results {
  const last = readResults();
  const isSame = MACHINE.every((part) => last?.machine[part] === found.machine[part]);
  const { machine, rows, growth } = isSame && last ? last : { machine: {}, rows: [], growth: [] };
  const merged: Results = {
    machine: { ...machine, ...found.machine },
    rows: merge(rows, found.rows),
    growth: merge(growth, found.growth),
  };
  Deno.writeTextFileSync(FILE, toJson(merged));
  return merged;
}

function merge<T extends { readonly name: string }>(old: readonly T[], found: readonly T[]): T[] {
  return [...old.filter(({ name }) => !found.some((result) => result.name === name)), ...found];
}

/** The results as JSON, with four digits: more than are the same from run to run. */
export function toJson(results: Results): string {
  const short = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
  return `${JSON.stringify(results, short, 2)}\n`;
}

/** The machine as it is, with the versions of the peers that were asked for. */
export async function describeMachine(): Promise<Record<string, string>> {
  const all = cpus();
  return {
    cores: `${all.length} (${all[0].model.trim()})`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${Deno.build.os} ${Deno.osRelease()}, ${Deno.build.arch}`,
    deno: Deno.version.deno,
    ...await versions(),
  };
}
