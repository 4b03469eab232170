/**
 * Tables of a Citus cluster: partitioned by time as in PostgreSQL, and each partition in shards by one column. The ledger
 * and the documents stay on the coordinator, beside the decision to commit.
 *
 * @module
 */
import { BackendError } from "../../errors.ts";
import { columnOf, type Dataset, type DatasetName } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import type { Partitioning } from "../postgres/migrate.ts";
import type { PostgresSession } from "../postgres/pool.ts";
import { literal, upgradesFrom } from "../postgres/schema.ts";

/** The field of each dataset that decides on the shard of a record. It is a part of the key where there is one. */
export const DISTRIBUTED_BY: Readonly<Record<DatasetName, string>> = {
  system_metrics: "nodeId",
  service_metrics: "serviceName",
  device_metrics: "nodeId",
  metric_points: "name",
  usage_records: "usageId",
  cost_entries: "entryId",
};

/** Shards of a table on each worker, which takes in those of a batch one after the other. */
const SHARDS_PER_NODE = 2;
/** The default of Citus, which is for tables of many tenants. Another value is a choice of the operator. */
const DEFAULT_SHARDS = "32";

/** Shards of a new table. */
const SHARD_COUNT = `(SELECT CASE current_setting('citus.shard_count') WHEN '${DEFAULT_SHARDS}' ` +
  `THEN ${SHARDS_PER_NODE} * count(*)::int ELSE current_setting('citus.shard_count')::int END ` +
  "FROM pg_dist_node WHERE shouldhaveshards AND noderole = 'primary')";

/**
 * Settings of every transaction. With several connections to a worker, transactions that create partitions of long names
 * wait for each other. SET LOCAL, as of a timeout of locks, reaches workers only if it is told to.
 */
export const CITUS_SETTINGS = "SET LOCAL citus.propagate_set_commands = 'local'; " +
  "SET LOCAL citus.multi_shard_modify_mode = 'sequential'; ";

/** Records of a batch whose COPY gains from {@linkcode PARALLEL_COPY}. */
export const PARALLEL_RECORDS = 5_000;
/**
 * Settings of a large COPY: two shards of each worker take records at once, over two connections that are kept. INSERT
 * stays sequential: two writers of the same keys would wait for each other.
 */
export const PARALLEL_COPY = "SET LOCAL citus.multi_shard_modify_mode = 'parallel'; " +
  "SET LOCAL citus.max_adaptive_executor_pool_size = 2; SET LOCAL citus.max_cached_conns_per_worker = 2; ";

/** Distributed tables in place of local ones. */
export const DISTRIBUTED: Partitioning = {
  relationKind: "d",
  upgradesFrom: (version) =>
    upgradesFrom(version, {
      partitioning: " PARTITION BY RANGE (timestamp)",
      afterTable: (dataset) => [distribute(dataset)],
    }),
  adopt: distributeTables,
  advice: "Distribute them with `openfinops database init --backend citus`.",
};

/** The statement that distributes a table, by itself: no other table is placed with it. */
function distribute(dataset: Dataset<unknown>): string {
  const { name } = columnOf(dataset, DISTRIBUTED_BY[dataset.name]);
  return `SELECT create_distributed_table('${dataset.name}', '${name}', colocate_with => 'none', ` +
    `shard_count => ${SHARD_COUNT})`;
}

/** The statement that distributes a table of staged costs: each row beside the cost that it becomes. */
export function distributeStaging(table: string): string {
  const { name } = columnOf(DATASETS.cost_entries, DISTRIBUTED_BY.cost_entries);
  return `SELECT create_distributed_table('${table}', '${name}', colocate_with => 'cost_entries')`;
}

/** Moves the records of local tables to the workers, in one transaction. */
async function distributeTables(session: PostgresSession): Promise<void> {
  const datasets = Object.values<Dataset<unknown>>(DATASETS);
  await session.query(`LOCK TABLE ${datasets.map(({ name }) => name).join(", ")} IN ACCESS EXCLUSIVE MODE`);
  const blockers: string[] = [];
  for (const dataset of datasets) {
    blockers.push(...(await session.query(blockersQuery(dataset))).map(([what]) => what!));
  }
  if (blockers.length > 0) {
    throw new BackendError(
      `Cannot distribute the tables: Citus does not take ${
        blockers.join(", ")
      }. Remove it, and run it again. ` +
        "Nothing was changed.",
      { code: "EXTENSION_CONFLICT", operation: "open", kind: "operator" },
    );
  }
  for (const dataset of datasets) {
    const { name } = dataset;
    const count = async () => (await session.query(`SELECT count(*)::text FROM ${name}`))[0][0];
    const before = await count();
    await session.query(distribute(dataset));
    await session.query(`SELECT truncate_local_data_after_distributing_table('${name}')`);
    const after = await count();
    if (after === before) continue;
    throw new BackendError(
      `Cannot distribute ${name}: it has ${before} records, and ${after} arrived at the workers. Nothing was changed.`,
      { code: "SERVER_FAILED", operation: "open", kind: "operator" },
    );
  }
}

/** A query for what keeps Citus from distributing a table. */
function blockersQuery(dataset: Dataset<unknown>): string {
  const { name } = dataset;
  const column = columnOf(dataset, DISTRIBUTED_BY[dataset.name]).name;
  return `WITH RECURSIVE tree AS (SELECT ${literal(name)}::regclass::oid AS relid, 0 AS level UNION ALL
      SELECT inhrelid, level + 1 FROM pg_catalog.pg_inherits JOIN tree ON relid = inhparent)
    SELECT 'the table ' || relid::regclass || ', which is not partitioned by time' FROM tree
      JOIN pg_catalog.pg_class ON oid = relid WHERE level = 0 AND relkind <> 'p'
    UNION ALL SELECT 'the partition ' || relid::regclass || ', which is no ordinary table' FROM tree
      JOIN pg_catalog.pg_class ON oid = relid WHERE level > 0 AND relkind <> 'r'
    UNION ALL SELECT 'the trigger ' || tgname || ' of ' || relid::regclass FROM tree
      JOIN pg_catalog.pg_trigger ON tgrelid = relid WHERE NOT tgisinternal AND tgparentid = 0
    UNION ALL SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass FROM tree
      JOIN pg_catalog.pg_constraint ON relid IN (conrelid, confrelid) WHERE contype = 'f' AND conparentid = 0
    UNION ALL SELECT 'the constraint ' || conname || ' of ' || conrelid::regclass FROM tree
      JOIN pg_catalog.pg_constraint ON conrelid = relid WHERE contype = 'x' AND conparentid = 0
    UNION ALL SELECT 'the unique index ' || indexrelid::regclass || ' without ${column}' FROM tree
      JOIN pg_catalog.pg_index ON indrelid = relid WHERE indisunique AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute
        WHERE attrelid = relid AND attnum = ANY(indkey::int2[]) AND attname = '${column}')
    UNION ALL SELECT 'the identity column ' || attname || ' of ' || relid::regclass FROM tree
      JOIN pg_catalog.pg_attribute ON attrelid = relid WHERE attidentity <> '' AND level = 0`;
}
