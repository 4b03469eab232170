import { type Column, columnOf, type Dataset, hasTable } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";

/** Form of the tables of a database. */
export interface SchemaForm {
  /** Statements that lead to each schema version from the one before, beside the tables and columns of datasets. */
  readonly steps: Readonly<Record<number, readonly string[]>>;
  /** The statements that create a table and its indexes. */
  createTable(dataset: Dataset<unknown>): readonly string[];
  /** The statements that add columns. None rewrites a row. */
  addColumns(dataset: Dataset<unknown>, columns: readonly Column[]): readonly string[];
}

/** The statements that lead from a schema version, 0 for an empty database, to that of this program. */
export function upgradesFrom(version: number, { steps, createTable, addColumns }: SchemaForm): string[] {
  return [
    ...Object.entries(steps).flatMap(([to, steps]) => Number(to) > version ? steps : []),
    ...Object.values(DATASETS).flatMap((dataset: Dataset<unknown>) => {
      if (!hasTable(dataset, version)) return createTable(dataset);
      const added = dataset.columns.filter(({ since }) => since > version);
      return added.length > 0 ? addColumns(dataset, added) : [];
    }),
  ];
}

/** Columns of a table as they are read. */
interface ReadableForm {
  /** The columns in which a column of a dataset is kept. */
  names(column: Column): readonly string[];
  /** Null with the type of a column. */
  nullOf(column: Column): string;
  /** True if rows have a `rowid`. */
  readonly hasRowid: boolean;
}

/** The dataset as a database of a schema version can be read: the columns that it lacks are null. */
export function readableFrom<T>(
  dataset: Dataset<T>,
  version: number,
  { names, nullOf, hasRowid }: ReadableForm,
): Dataset<T> {
  const hasRows = hasTable(dataset, version);
  if (hasRows && dataset.columns.every(({ since }) => since <= version)) return dataset;
  const columns = dataset.columns.flatMap((column) =>
    names(column).map((name) => hasRows && column.since <= version ? name : `${nullOf(column)} AS ${name}`)
  );
  if (hasRowid) columns.push(hasRows ? "rowid" : "0 AS rowid");
  const from = hasRows ? `FROM ${dataset.name}` : "WHERE false";
  return { ...dataset, source: `(SELECT ${columns.join(", ")} ${from}) AS ${dataset.name}` };
}

/** The column beside time that orders records of one time, along the key's index if there is one. */
export function tieBreaker(dataset: Dataset<unknown>): string {
  const field = dataset.key.find((field) => field !== "timestamp");
  return field === undefined ? "rowid" : columnOf(dataset, field).name;
}
