import { basename, dirname, join } from "node:path";
import type { Backend } from "../backends/backend.ts";
import type { SqliteBackendOptions } from "../backends/sqlite.ts";
import { DELIVERY } from "../backends/staging.ts";
import { describePath } from "../errors.ts";
import { syncFolder } from "../pipeline/durable_file.ts";
import { type DatasetMigration, migrate } from "../transfer/migrate.ts";
import { asFileError, TransferError } from "../transfer/transfer_error.ts";
import {
  type Command,
  CONNECTION_OPTIONS,
  FORMAT_OPTIONS,
  readConfig,
  readFormat,
  withBackend,
} from "./command.ts";
import { reportMigration } from "./migrate.ts";
import { UsageError } from "../query/option_values.ts";
import { note } from "./output.ts";
import { removePart, withPartFile } from "./part_file.ts";
import { ProgressLine } from "./progress.ts";

export const backup: Command = {
  name: "database backup",
  positionals: "<file>",
  missing: "Name the file to create.",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS],
  examples: [
    "openfinops database backup backup.db",
    "openfinops database backup backup.db --connection-string postgresql://agent@db.example/telemetry",
  ],
  async run(given) {
    const [path] = given.positionals;
    if (path.includes("://")) {
      throw new UsageError(
        "A backup is a file, not a connection string. Name it as in backup.db.",
        "INVALID_OPTION",
      );
    }
    const format = readFormat(given);
    const driver = readConfig(given).sqliteDriver ?? "auto";
    await refuseExisting(path);
    await withPartFile((onPart) =>
      withBackend(given, "read", async (from) => {
        const part = join(dirname(path), `.${basename(path)}.${crypto.randomUUID().slice(0, 8)}.part`);
        onPart(part);
        try {
          reportMigration(format, await copyInto(part, { from, driver }));
          await publish(part, path);
        } catch (error) {
          removePart(part);
          throw asFileError("write", path, error);
        }
      })
    );
    note(
      `Backup written to ${path}. Restore it with "openfinops database migrate --from sqlite:///${path} --to …".`,
    );
  },
};

async function refuseExisting(path: string): Promise<void> {
  try {
    await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw asFileError("write", path, error);
  }
  throw new TransferError(`${describePath(path)} exists and stays as it is. Name a new file.`, {
    code: "ALREADY_EXISTS",
  });
}

/**
 * Copies all records and documents into a new file.
 *
 * @throws {TransferError} If a delivery was published or undone meanwhile.
 */
export async function copyInto(
  part: string,
  { from, driver }: { from: Backend; driver: SqliteBackendOptions["driver"] },
): Promise<DatasetMigration[]> {
  const to = await openFile(part, driver);
  try {
    using progress = new ProgressLine();
    const before = await deliveriesOf(from);
    const found = await migrate(from, to, {
      onProgress: ({ copied, missing }) => progress.show(copied, copied / Math.max(copied, missing)),
    });
    // The costs of a delivery and its document are copied one after the other.
    if (await deliveriesOf(from) === before) return found;
    throw new TransferError("Costs were imported or undone during the backup. Run it again.", {
      code: "MIGRATION_DIFFERS",
    });
  } finally {
    await to.close();
  }
}

async function openFile(path: string, driver: SqliteBackendOptions["driver"]): Promise<Backend> {
  const { SqliteBackend } = await import("../backends/sqlite.ts");
  return await SqliteBackend.open({ path, mode: "create", driver, onConflict: "replace" });
}

async function deliveriesOf(backend: Backend): Promise<string> {
  const documents = await backend.documents.read(DELIVERY);
  return JSON.stringify(documents.map(({ id, body }) => ({ id, body })).sort((a, b) => a.id < b.id ? -1 : 1));
}

/** Gives a finished file its name. After a crash, the whole file has it or no file does. */
async function publish(part: string, path: string): Promise<void> {
  {
    using file = await Deno.open(part, { read: true, write: true });
    await file.sync();
  }
  await refuseExisting(path);
  await Deno.rename(part, path);
  await syncFolder(dirname(path));
}
