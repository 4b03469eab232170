/**
 * The machines of a Citus cluster.
 *
 * @module
 */
import { BackendError } from "../../errors.ts";
import type { OpenMode } from "../backend.ts";
import { type NeededExtension, refuse, requireExtension } from "../postgres/extension.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { literal } from "../postgres/schema.ts";

/** Time between looks at transactions in doubt. */
const POLL_MS = 250;

const CITUS: NeededExtension = {
  name: "citus",
  oldest: "13.0",
  setting: "citus.shard_count",
  create: "CREATE EXTENSION IF NOT EXISTS citus",
  advice: {
    install: "Install it on each machine of the cluster.",
    load: "Put it first in shared_preload_libraries and restart the server.",
    update: "Update it, and run ALTER EXTENSION citus UPDATE on each node.",
  },
};

/**
 * Requires the extension, and creates it in the mode `create`. The connection must be to the coordinator.
 *
 * @returns Its version.
 * @throws {BackendError} If the extension cannot be used, or the cluster has no node for shards.
 */
export async function requireCitus(pool: PostgresPool, mode: OpenMode): Promise<string> {
  const version = await requireExtension(pool, mode, CITUS);
  const [[group, nodes]] = await pool.useBriefly("open", (session) =>
    session.query(
      "SELECT (SELECT groupid FROM pg_dist_local_group)::text, (SELECT count(*) FROM pg_dist_node " +
        "WHERE shouldhaveshards AND isactive AND noderole = 'primary')::text",
    ));
  const reason = group !== "0"
    ? "this is a worker. Connect to the coordinator, which has the ledger."
    : nodes === "0"
    ? "the cluster has no node for shards. Add one: SELECT citus_add_node('host', 5432)."
    : undefined;
  if (reason !== undefined) throw refuse(pool, "SERVER_UNSUPPORTED", reason);
  return version;
}

/** A node of the cluster. */
export interface ClusterNode {
  /** Host and port. */
  readonly address: string;
  readonly isActive: boolean;
  /** True if it may have shards. */
  readonly takesShards: boolean;
  /** Shards on it, of all tables and partitions. */
  readonly shards: number;
  /** Settings and daemons of the node; absent if it does not answer. */
  readonly answer?: NodeAnswer;
}

/** Answer of a node to {@linkcode NODE_QUERY}. */
interface NodeAnswer {
  readonly version: string;
  readonly bytes: number;
  readonly prepared: number;
  readonly connections: number;
  readonly workers: number;
  /** True if the maintenance daemon ends transactions in doubt. */
  readonly recovers: boolean;
  /** Databases with Citus need a daemon each. */
  readonly databases: number;
  /** Number of maintenance daemons of the database; null where the user may not see them. */
  readonly daemons: number | null;
}

const NODE_QUERY = `SELECT json_build_object(
  'version', (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus'),
  'bytes', pg_database_size(current_database()),
  'prepared', current_setting('max_prepared_transactions')::int,
  'connections', current_setting('max_connections')::int,
  'workers', current_setting('max_worker_processes')::int,
  'recovers', current_setting('citus.recover_2pc_interval') <> '-1',
  'databases', (SELECT count(*) FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate),
  'daemons', CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE') THEN (SELECT count(*) FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND application_name = 'Citus Maintenance Daemon') END)`;

/** Asks all nodes of the cluster. */
export async function clusterNodes(session: PostgresSession): Promise<ClusterNode[]> {
  const rows = await session.query(
    `SELECT format('%s:%s', nodename, nodeport), isactive::text, shouldhaveshards::text,
      (SELECT count(*) FROM pg_dist_placement AS p WHERE p.groupid = n.groupid AND shardid IN (SELECT shardid
        FROM pg_dist_shard WHERE shardminvalue IS NOT NULL))::text,
      CASE WHEN success THEN result END
    FROM pg_dist_node AS n LEFT JOIN run_command_on_all_nodes(${literal(NODE_QUERY)})
      USING (nodeid) WHERE noderole = 'primary' ORDER BY n.groupid`,
  );
  return rows.map(([address, isActive, takesShards, shards, answer]) => ({
    address: address!,
    isActive: isActive === "true",
    takesShards: takesShards === "true",
    shards: Number(shards),
    ...(answer === null ? {} : { answer: JSON.parse(answer) }),
  }));
}

/** Warnings about the nodes, for an operator. */
export function clusterWarnings(nodes: readonly ClusterNode[]): string[] {
  const versions = new Set(nodes.flatMap(({ answer }) => answer ? [answer.version] : []));
  const holders = nodes.filter(({ isActive, takesShards }) => isActive && takesShards);
  const average = holders.reduce((sum, { shards }) => sum + shards, 0) / holders.length;
  return [
    ...(versions.size > 1 ? [`the nodes have different versions of Citus: ${[...versions].join(", ")}`] : []),
    ...(holders.some(({ shards }) => shards < average / 2)
      ? ["shards are out of balance: run SELECT citus_rebalance_start() on the coordinator"]
      : []),
    ...nodes.flatMap((node) => nodeWarnings(node).map((warning) => `${node.address}: ${warning}`)),
  ];
}

function nodeWarnings({ isActive, answer }: ClusterNode): string[] {
  if (!isActive) return ["the node is disabled: run SELECT citus_activate_node('host', port)"];
  if (!answer) return ["the node does not answer: writes wait, and reads of its shards fail"];
  const { prepared, connections, workers, recovers, databases, daemons } = answer;
  const warnings: [boolean, string][] = [
    [
      prepared < connections,
      `max_prepared_transactions (${prepared}) is below max_connections (${connections}): commits can fail`,
    ],
    [
      workers < databases + 4, // parallel queries and logical replication take some
      `max_worker_processes is ${workers} for ${databases} databases: maintenance daemons may not start`,
    ],
    [!recovers, "citus.recover_2pc_interval is -1: transactions in doubt stay so"],
    [
      daemons === 0,
      "the maintenance daemon is not running: transactions in doubt stay so; see the server's log",
    ],
  ];
  return warnings.flatMap(([isSo, warning]) => isSo ? [warning] : []);
}

/** Transactions that workers have prepared and not ended, by their id; throws where a worker does not answer. */
async function preparedTransactions(pool: PostgresPool, session: PostgresSession): Promise<string[]> {
  const sql = "SELECT coalesce(json_agg(gid), '[]') FROM pg_catalog.pg_prepared_xacts " +
    "WHERE database = current_database() AND gid LIKE 'citus\\_%'";
  const rows = await session.query(
    `SELECT nodeid::text, success::text, result FROM run_command_on_all_nodes(${literal(sql)})`,
  );
  return rows.flatMap(([node, success, result]) => {
    if (success === "true") return (JSON.parse(result!) as string[]).map((gid) => `${node} ${gid}`);
    throw inDoubt(pool, `node ${node} does not answer (${result})`);
  });
}

/**
 * Waits until no transaction is in doubt that was when it was called: one that the coordinator has committed and a worker
 * has not, as after a crash between the two. Its records cannot be seen until then. The maintenance daemon resolves it
 * within a minute, a superuser at once.
 *
 * @throws {BackendError} If it takes long; retryable.
 */
export async function resolveInDoubt(pool: PostgresPool, limitMs: number): Promise<void> {
  await pool.use("write", async (session) => {
    const end = performance.now() + limitMs;
    let open = await preparedTransactions(pool, session);
    if (open.length === 0) return;
    const [[mayRecover]] = await session.query(
      "SELECT has_function_privilege('recover_prepared_transactions()', 'EXECUTE')::text",
    );
    for (;;) {
      if (mayRecover === "true") await session.query("SELECT recover_prepared_transactions()");
      const now = new Set(await preparedTransactions(pool, session));
      open = open.filter((transaction) => now.has(transaction));
      if (open.length === 0) return;
      if (performance.now() > end) throw inDoubt(pool, `${open.length} transactions are in doubt`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  });
}

function inDoubt(pool: PostgresPool, reason: string): BackendError {
  return new BackendError(
    `Cannot tell if all writes to ${pool.name} are visible: ${reason}. It is retried; see citus.recover_2pc_interval.`,
    { code: "LOCKED", operation: "write", kind: "transient" },
  );
}
