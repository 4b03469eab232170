/**
 * Generates `docs/fields.md` from the datasets and the doc comments of their record types. `deno task fields` runs it.
 *
 * A unit stands at the end of the first sentence of a doc comment, after a comma: "CPU load, percent."
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";
import { DATASETS as COMMAND_NAMES } from "../src/query/selection.ts";
import type { Column, Dataset } from "../src/records/dataset.ts";
import { DATASETS } from "../src/records/datasets.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
const DOCUMENT = `${ROOT}/docs/fields.md`;

const UNITS = ["percent", "MB/s", "bytes", "ms", "s", "°C", "W", "J", "MHz", "RPM", "epoch ms", "tokens"];
/** A unit at the end of a sentence; rates such as requests/s need no entry in the list. */
const UNIT = new RegExp(
  `, (${UNITS.map((unit) => unit.replace("/", "\\/")).join("|")}|[a-z]+/[a-z]+)\\.(?= |$)`,
);

const TYPES: Readonly<Record<Column["type"], string>> = {
  timestamp: "time",
  text: "text",
  real: "number",
  integer: "whole number",
  boolean: "true or false",
  decimal: "exact decimal",
  map: "map of texts",
};

/** As much of `deno doc --json` as is needed here. */
interface Doc {
  nodes: Record<string, {
    symbols: {
      name: string;
      declarations: {
        kind: string;
        jsDoc?: { doc: string };
        def: { properties?: { name: string; jsDoc?: { doc: string } }[]; tsType?: DocType };
      }[];
    }[];
  }>;
}

interface DocType {
  value?: { typeName?: string; typeParams?: DocType[] };
}

/** Doc comments of record types, by the name of the variable that holds the dataset. */
async function readRecordTypes(): Promise<Map<string, { summary: string; fields: Map<string, string> }>> {
  const folder = `${ROOT}/src/records`;
  const files = [...Deno.readDirSync(folder)].map(({ name }) => `${folder}/${name}`).sort();
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["doc", "-q", "--json", ...files] })
    .output();
  const { nodes }: Doc = JSON.parse(new TextDecoder().decode(stdout));
  const symbols = Object.values(nodes).flatMap(({ symbols }) => symbols);
  const types = new Map<string, { summary: string; fields: Map<string, string> }>();
  for (const { name, declarations: [{ def: { tsType } }] } of symbols) {
    if (tsType?.value?.typeName !== "Dataset") continue;
    const recordType = tsType.value.typeParams?.[0].value?.typeName;
    const found = symbols.find((symbol) => symbol.name === recordType)?.declarations[0];
    if (!found) throw new Error(`${name} has no record type`);
    const fields = new Map(found.def.properties?.map(({ name, jsDoc }) => [name, jsDoc?.doc ?? ""]));
    types.set(name, { summary: found.jsDoc?.doc ?? "", fields });
  }
  return types;
}

function toCamel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
}

/** Text of a doc comment as Markdown in a table cell. */
function plain(doc: string): string {
  return doc.replaceAll(/\{@linkcode (\w+)\}/g, "`$1`").replaceAll("\n", " ").replaceAll("|", "\\|").trim();
}

function row({ field, type, required, default: byDefault, oneOf, maxLength }: Column, doc: string): string {
  const [match, unit = ""] = UNIT.exec(plain(doc)) ?? [""];
  const notes = [
    byDefault === undefined ? required ? "required" : "" : `default \`${byDefault}\``,
    oneOf ? `one of ${oneOf.map((name) => `\`${name}\``).join(", ")}` : "",
    type === "text" && !oneOf && maxLength < 65_536 ? `up to ${maxLength} characters` : "",
  ].filter(Boolean);
  const text = match ? plain(doc).replace(match, ".") : plain(doc);
  return `| \`${field}\` | ${TYPES[type]} | ${unit} | ${text} | ${notes.join("; ")} |`;
}

function section(
  { name, columns, key }: Dataset<unknown>,
  { summary, fields }: { summary: string; fields: Map<string, string> },
): string {
  const [command] = Object.entries(COMMAND_NAMES).find(([, dataset]) => dataset.name === name) ?? [];
  const facts = [
    `Table \`${name}\`.`,
    command ? `On the command line: \`${command}\`.` : "",
    key.length > 0
      ? `Key: ${key.map((field) => `\`${field}\``).join(", ")}.`
      : "No key: the ledger deduplicates batches.",
  ];
  return [
    `## ${name}`,
    plain(summary),
    facts.filter(Boolean).join(" "),
    [
      "| field | type | unit | meaning | notes |",
      "| --- | --- | --- | --- | --- |",
      ...columns.map((column) => {
        const doc = fields.get(column.field);
        if (!doc) throw new Error(`${name}.${column.field} has no doc comment`);
        return row(column, doc);
      }),
    ].join("\n"),
  ].join("\n\n");
}

/** The text of `docs/fields.md`. */
export async function fieldsDocument(): Promise<string> {
  const types = await readRecordTypes();
  const sections = Object.values(DATASETS).map((dataset) => {
    const type = types.get(toCamel(dataset.name));
    if (!type) throw new Error(`No variable ${toCamel(dataset.name)} in src/records`);
    return section(dataset, type);
  });
  const text = [
    "# Fields",
    "<!-- Generated by `deno task fields`. Edit the doc comments in src/records/ instead. -->",
    "Every field of every dataset. Records use these names. Tables, CSV files and SQL use them in snake_case " +
    "(`cpuUsage` is `cpu_usage`). Fields without a note are optional. An absent value is not stored as 0.",
    ...sections,
  ].join("\n\n");
  return await formatMarkdown(`${text}\n`);
}

/** Formats Markdown as `deno fmt` does in this project. */
export async function formatMarkdown(text: string): Promise<string> {
  const config = `${ROOT}/deno.json`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "-q", "--config", config, "--ext", "md", "-"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
  const { success, stdout } = await child.output();
  if (!success) throw new Error("deno fmt failed");
  return new TextDecoder().decode(stdout);
}

if (import.meta.main) Deno.writeTextFileSync(DOCUMENT, await fieldsDocument());
