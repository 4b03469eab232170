/**
 * Records what is done to files, in its order, so that a test can tell that a file is on disk before it is renamed.
 *
 * @module
 */

/** The methods of `Deno.FsFile` that are recorded. */
type Method = "write" | "sync" | "syncData" | "truncate" | "lock";

/**
 * Records calls until it is disposed, as `write a`, `sync a`, `rename a.new a`, `create a`, `remove a` and `lock a`; paths
 * are relative to a folder, which is `.` itself. What takes time is recorded when it is done, a lock when it is asked for.
 */
export class FileCalls implements Disposable {
  readonly calls: string[] = [];
  /** Is called before a sync; a rejection is the result of that sync. */
  beforeSync: (path: string) => Promise<void> | void = () => {};
  /** Is called before a file is removed. */
  beforeRemove: (path: string) => void = () => {};
  readonly #folder: string;
  readonly #paths = new WeakMap<Deno.FsFile, string>();
  readonly #restore: (() => void)[] = [];

  /** Begins to record what is done below a folder. */
  constructor(folder: string) {
    this.#folder = folder;
    const { open, openSync, rename, remove } = Deno;
    const noteOpen = (file: Deno.FsFile, path: string | URL, options?: Deno.OpenOptions) => {
      this.#paths.set(file, String(path));
      if (options?.createNew) this.#note("create", path);
      return file;
    };
    this.#replace(Deno, {
      open: async (path: string | URL, options) => noteOpen(await open(path, options), path, options),
      openSync: (path: string | URL, options) => noteOpen(openSync(path, options), path, options),
      rename: async (from: string | URL, to: string | URL) => {
        await rename(from, to);
        this.#note("rename", from, to);
      },
      remove: async (path: string | URL, options) => {
        this.beforeRemove(String(path));
        await remove(path, options);
        this.#note("remove", path);
      },
    });
    for (const method of ["write", "sync", "syncData", "truncate", "lock"] as const) this.#record(method);
  }

  /** The calls of some kinds. */
  only(...kinds: readonly string[]): string[] {
    return this.calls.filter((call) => kinds.includes(call.split(" ")[0]));
  }

  /** True if a call comes after the last one of another. */
  isAfterLast(call: string, other: string): boolean {
    return this.calls.lastIndexOf(call) > this.calls.lastIndexOf(other);
  }

  [Symbol.dispose](): void {
    for (const restore of this.#restore) restore();
  }

  #record(method: Method): void {
    const original = Deno.FsFile.prototype[method] as (...args: unknown[]) => Promise<unknown>;
    const note = (file: Deno.FsFile) => this.#note(method.replace("Data", ""), this.#paths.get(file) ?? "");
    const beforeSync = (file: Deno.FsFile) => this.beforeSync(this.#relative(this.#paths.get(file) ?? ""));
    this.#replace(Deno.FsFile.prototype, {
      [method]: async function (this: Deno.FsFile, ...args: unknown[]) {
        if (method === "lock") note(this);
        if (method.startsWith("sync")) await beforeSync(this);
        const result = await original.apply(this, args);
        if (method !== "lock") note(this);
        return result;
      },
    });
  }

  #replace<T extends object>(target: T, replacements: Partial<T>): void {
    for (const name of Object.keys(replacements) as (keyof T)[]) {
      const original = target[name];
      target[name] = replacements[name]!;
      this.#restore.push(() => target[name] = original);
    }
  }

  #note(kind: string, ...paths: (string | URL)[]): void {
    const relative = paths.map((path) => this.#relative(String(path)));
    if (relative.every((path) => !path.startsWith("/"))) this.calls.push([kind, ...relative].join(" "));
  }

  #relative(path: string): string {
    if (path === this.#folder) return ".";
    return path.startsWith(`${this.#folder}/`) ? path.slice(this.#folder.length + 1) : path;
  }
}
