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
import { printFound, showMoney } from "./output.ts";
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
    const rows = found.map((anomaly) => rowOf(anomaly, timeZone, format === "table"));
    printFound(format, found, { header: HEADER, rows, none: "No anomalies." });
  },
};

function rowOf(anomaly: CostAnomaly, timeZone: string, isRounded: boolean): object {
  const { startTime, kind, severity, group, currency, basis, amount, expected, deviation } = anomaly;
  const day = Temporal.Instant.fromEpochMilliseconds(startTime).toZonedDateTimeISO(timeZone).toPlainDate();
  const names = Object.values(group).filter((name) => name !== null);
  const percent = isRounded ? `${deviation > 0 ? "+" : ""}${deviation.toFixed(0)} %` : String(deviation);
  return {
    day: day.toString(),
    kind,
    severity,
    group: names.join(", ") || (Object.keys(group).length === 0 ? "(all)" : "(none)"),
    currency: basis ? `${currency} (${basis})` : currency,
    amount: isRounded ? showMoney(amount, currency) : amount,
    expected: isRounded ? showMoney(Decimal.from(expected).toString(), currency) : String(expected),
    deviation: Number.isFinite(deviation) ? percent : "",
  };
}
