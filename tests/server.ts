/** Servers to test: in this process, or the real command; on memory, SQLite or PostgreSQL. */
import "../cli.ts"; // brings all it needs into the cache
import type { PersistenceConfig } from "../src/config.ts";
import { OPEN_ACCESS } from "../src/server/access.ts";
import { type AppOptions, createApp } from "../src/server/app.ts";
import type { MetricIntakeOptions } from "../src/server/metric_intake.ts";
import { type OpenedResources, openResources } from "../src/server/resources.ts";
import { type Listening, serve, type ServeOptions } from "../src/server/serve.ts";
import { type Running, startCommand } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";

/** A database to serve, gone when the test is over. */
export interface Place extends AsyncDisposable {
  /** Connection string; undefined in memory. */
  readonly url: string | undefined;
  /** A folder for spools and other files. */
  readonly folder: TemporaryFolder;
}

/** Makes a database for a server. */
export const PLACES: { readonly [Name in "memory" | "SQLite" | "PostgreSQL"]: () => Promise<Place> } = {
  memory: () => Promise.resolve(placeIn(new TemporaryFolder(), undefined)),
  SQLite() {
    const folder = new TemporaryFolder();
    return Promise.resolve(placeIn(folder, folder.sqlite()));
  },
  async PostgreSQL() {
    const database = await TestDatabase.create();
    return placeIn(new TemporaryFolder(), database.url, database);
  },
};

function placeIn(folder: TemporaryFolder, url: string | undefined, database?: AsyncDisposable): Place {
  return {
    url,
    folder,
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
      await database?.[Symbol.asyncDispose]();
    },
  };
}

/** A server in this process. */
export interface TestServer extends AsyncDisposable {
  /** Address with a slash at its end. */
  readonly url: string;
  readonly resources: OpenedResources;
  readonly listening: Listening;
  /** Sends a request to a path such as `/healthz`, and reads the answer. */
  send(path: string, init?: RequestInit): Promise<Answer>;
}

/** An answer that was read. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON. */
  // deno-lint-ignore no-explicit-any
  json(): any;
}

/** Starts a server in this process on loopback, on a free port where none is given; in memory where no configuration names a database. */
export async function openServer(
  config: PersistenceConfig = {},
  options: Partial<AppOptions> = {},
  { intake, ...listen }: Partial<ServeOptions> & { intake?: MetricIntakeOptions } = {},
): Promise<TestServer> {
  const resources = await openResources(config, intake);
  const app = createApp(resources, { access: OPEN_ACCESS, ...options });
  const listening = await serve(app, { hostname: "127.0.0.1", port: 0, ...listen });
  const url = listening.url.href;
  return {
    url,
    resources,
    listening,
    send: (path, init) => send(new URL(path, url), init),
    async [Symbol.asyncDispose]() {
      await listening.close({ deadlineMs: 5_000 });
      await resources.close({ deadlineMs: 5_000 });
    },
  };
}

/** Sends a request and reads the answer. */
export async function send(url: string | URL, init?: RequestInit): Promise<Answer> {
  const response = await fetch(url, init);
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) };
}

/** The command `openfinops serve`, running. */
export interface ServerProcess extends Omit<Running, "stop"> {
  /** Address with a slash at its end. */
  readonly url: string;
  send(path: string, init?: RequestInit): Promise<Answer>;
  /** Sends a signal, waits for the end, and returns the exit code. */
  stop(signal?: Deno.Signal): Promise<number>;
}

/** Starts `openfinops serve` on a free port, and waits until it listens. */
export async function startServer(
  args: readonly string[],
  { listen = "127.0.0.1:0", ...options }: {
    cwd: string;
    env?: Record<string, string>;
    listen?: string;
    run?: readonly string[];
  },
): Promise<ServerProcess> {
  const running = startCommand(["serve", "--listen", listen, ...args], options);
  const line = await running.line((line) => /listening/i.test(line) && URL_IN_LINE.test(line));
  const [, url] = URL_IN_LINE.exec(line)!;
  return {
    ...running,
    url,
    send: (path, init) => send(new URL(path, url), init),
    stop: async (signal) => (await running.stop(signal)).code,
  };
}

/** The address of a server in a line of its log. */
const URL_IN_LINE = /\b(https?:\/\/\S+?\/)(?=[\s"]|$)/;
