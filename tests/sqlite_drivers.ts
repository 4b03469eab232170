import { loadSqliteDriver, type SqliteDriverName } from "../src/backends/sqlite/driver.ts";

/** The drivers that can be loaded here, and why the others cannot. */
export async function sqliteDrivers(): Promise<{
  present: SqliteDriverName[];
  absent: { name: SqliteDriverName; reason: string }[];
}> {
  const found = {
    present: [] as SqliteDriverName[],
    absent: [] as { name: SqliteDriverName; reason: string }[],
  };
  for (const name of ["@db/sqlite", "node:sqlite"] as const) {
    try {
      await loadSqliteDriver(name);
      found.present.push(name);
    } catch (error) {
      found.absent.push({ name, reason: (error as Error).message });
    }
  }
  return found;
}
