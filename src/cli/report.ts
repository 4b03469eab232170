import { writeWholeFile } from "../transfer/file_writer.ts";
import { costEntries } from "../records/cost_entry.ts";
import { type Report, writeHtml, writeMarkdown } from "../report/document.ts";
import { type ReportQuery, REPORTS } from "../report/reports.ts";
import { invalidValue, missing, readName } from "../query/option_values.ts";
import { RANGE_OPTIONS, readPeriod, readRange } from "../query/selection.ts";
import { withDefault } from "../query/view_options.ts";
import { readWhere, splitNames, WHERE_OPTION } from "../query/where.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, CONNECTION_OPTIONS, readZone, withBackend } from "./command.ts";
import { note } from "./output.ts";

const NAMES = Object.keys(REPORTS);
/** Range where none is given. */
const DEFAULT_RANGE = "this-month";

/** Writers of a report, by the extension of its file. */
const WRITERS: Readonly<Record<string, (report: Report) => string>> = {
  html: writeHtml,
  md: writeMarkdown,
};

export const report: Command = {
  name: "report",
  positionals: NAMES.join("|"),
  missing: `Name a report: ${NAMES.join(", ")}.`,
  options: [
    ...CONNECTION_OPTIONS,
    ...withDefault(RANGE_OPTIONS, DEFAULT_RANGE),
    ...optionsOf({
      "output FILE": "file that ends in .html or .md (required)",
      "group-by FIELDS": "costs: list by these (default category,serviceName,resourceId)",
    }),
    WHERE_OPTION,
    ...optionsOf({
      "by TAG": "models: tag of the second list (default team)",
      "basis NAME": "cluster: costs of GPUs, estimated or billed (default estimated)",
    }),
  ],
  examples: [
    "openfinops report costs --during last-month --output report.html",
    "openfinops report cluster --since 7d --output report.html",
    "openfinops report models --since last-month --output models.md",
  ],
  async run(given) {
    const [what] = given.positionals;
    const name = readName("report", what, NAMES);
    const output = given.text("output");
    if (output === undefined) {
      throw missing("Pass --output with a file that ends in .html or .md.");
    }
    const write = WRITERS[output.slice(output.lastIndexOf(".") + 1)];
    if (!write) throw invalidValue("output", "a file that ends in .html or .md", output);
    const query = readQuery(given);
    const made = await withBackend(given, "read", (backend) => REPORTS[name](backend, query));
    await writeWholeFile(output, new Blob([write(made)]).stream());
    note(`Wrote ${output}: ${made.title}, ${made.subtitle}`);
  },
};

function readQuery(given: Arguments): ReportQuery {
  const timeZone = readZone(given);
  const month = readPeriod("since", DEFAULT_RANGE, timeZone);
  const { startTime = month.startTime, endTime = Date.now() } = readRange(given);
  return {
    startTime,
    endTime,
    timeZone,
    groupBy: given.has("group-by")
      ? splitNames(given.text("group-by"))
      : ["category", "serviceName", "resourceId"],
    where: readWhere(given, { dataset: costEntries, timeZone }),
    by: given.text("by") ?? "team",
    basis: readName("basis", given.text("basis") ?? "estimated", ["estimated", "billed"]),
  };
}
