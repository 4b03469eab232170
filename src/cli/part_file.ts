import { STOP_SIGNALS } from "./stop.ts";

/** Names beside that of a SQLite database. */
const SQLITE_FILES = ["", "-wal", "-shm"];

/**
 * Calls `write`, which names the unfinished file that it writes. A signal that ends the program removes that file, also
 * the files that SQLite keeps beside a database.
 */
export async function withPartFile<T>(write: (onPart: (part: string) => void) => Promise<T>): Promise<T> {
  let part: string | undefined;
  const listeners = STOP_SIGNALS.map((signal) => {
    const stop = () => {
      if (part !== undefined) removePart(part);
      Deno.removeSignalListener(signal, stop);
      Deno.kill(Deno.pid, signal); // ends as it would have ended
    };
    Deno.addSignalListener(signal, stop);
    return { signal, stop };
  });
  try {
    return await write((path) => part = path);
  } finally {
    for (const { signal, stop } of listeners) Deno.removeSignalListener(signal, stop);
  }
}

/** Removes an unfinished file, if it exists. */
export function removePart(part: string): void {
  for (const suffix of SQLITE_FILES) {
    try {
      Deno.removeSync(part + suffix, { recursive: true }); // an export may be a folder
    } catch {
      // it is not there yet, or finished
    }
  }
}
