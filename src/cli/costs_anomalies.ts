import { findAnomalies } from "../monitoring/anomalies/anomalies.ts";
import type { CostAnomaly } from "../records/anomaly.ts";
import { Decimal } from "../records/decimal.ts";
import {
  type Command,
  FORMAT_OPTIONS,
  readFormat,
  readZone,
  SOURCE_OPTIONS,
  withBackend,
} from "./command.ts";
import { formatTable, note, print, printFound, showMoney } from "./output.ts";
import { ANOMALY_OPTIONS, readAnomalies } from "../query/view_options.ts";

const HEADER = ["day", "kind", "severity", "group", "currency", "amount", "expected", "deviation"];

/** `openfinops costs anomalies` */
export const costsAnomalies: Command = {
  name: "costs anomalies",
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    ...ANOMALY_OPTIONS,
  ],
  examples: [
    "openfinops costs anomalies",
    "openfinops costs anomalies --since 90d --group-by tags.team --format json",
  ],
  async run(given) {
    const format = readFormat(given);
    const timeZone = readZone(given);
    const query = readAnomalies(given);
    const found = await withBackend(given, "read", (backend) => findAnomalies(backend, query));
    const table = () => {
      if (found.length > 0) print(formatTable(HEADER, found.map((anomaly) => shownCells(anomaly, timeZone))));
    };
    printFound(format, found, { table, header: HEADER, rows: found.map((each) => cellsOf(each, timeZone)) });
    if (found.length === 0) note("No anomalies.");
  },
};

function cellsOf(anomaly: CostAnomaly, timeZone: string): string[] {
  const { startTime, kind, severity, group, currency, basis, amount, expected, deviation } = anomaly;
  const day = Temporal.Instant.fromEpochMilliseconds(startTime).toZonedDateTimeISO(timeZone).toPlainDate();
  const names = Object.values(group).filter((name) => name !== null);
  return [
    day.toString(),
    kind,
    severity,
    names.join(", ") || (Object.keys(group).length === 0 ? "(all)" : "(none)"),
    basis ? `${currency} (${basis})` : currency,
    amount,
    String(expected),
    Number.isFinite(deviation) ? String(deviation) : "",
  ];
}

/** The cells of the table, whose numbers are rounded. */
function shownCells(anomaly: CostAnomaly, timeZone: string): string[] {
  const { currency, amount, expected, deviation } = anomaly;
  return [
    ...cellsOf(anomaly, timeZone).slice(0, -3),
    showMoney(amount, currency),
    showMoney(Decimal.from(expected).toString(), currency),
    Number.isFinite(deviation) ? `${deviation > 0 ? "+" : ""}${deviation.toFixed(0)} %` : "",
  ];
}
