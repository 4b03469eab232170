import type { Backend } from "../backends/backend.ts";
import { acknowledgeAnomaly, listAnomalies } from "../monitoring/anomalies/acknowledgements.ts";
import { type AnomalyQuery, describeAnomaly } from "../monitoring/anomalies/anomalies.ts";
import { shortIdOf } from "../monitoring/anomalies/anomaly_id.ts";
import { UsageError } from "../query/option_values.ts";
import type { CostAnomaly } from "../records/anomaly.ts";
import { Decimal } from "../records/decimal.ts";
import {
  BY_OPTION,
  type Command,
  CONNECTION_OPTIONS,
  FORMAT_OPTIONS,
  readBy,
  readFormat,
  readZone,
  SOURCE_OPTIONS,
  withBackend,
} from "./command.ts";
import { note, printFound, showMoney } from "./output.ts";
import { ANOMALY_OPTIONS, readAnomalies } from "../query/view_options.ts";

const COLUMNS = ["day", "kind", "severity", "group", "currency", "amount", "expected", "deviation"];
const HEADER = [...COLUMNS, "anomalyId", "acknowledgedAt", "acknowledgedBy"];
const TABLE_HEADER = [...COLUMNS, "acknowledged", "id"];

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
    const found = await withBackend(given, "read", (backend) => listAnomalies(backend, query));
    const rows = found.map((anomaly) => rowOf(anomaly, timeZone, format === "table"));
    printFound(format, found, {
      header: format === "table" ? TABLE_HEADER : HEADER,
      rows,
      none: "No anomalies.",
    });
  },
};

export const costsAck: Command = {
  name: "costs ack",
  positionals: "<id>",
  missing: "Name an anomaly by its id; `costs anomalies` has it.",
  options: [
    ...CONNECTION_OPTIONS,
    ...ANOMALY_OPTIONS,
    BY_OPTION,
  ],
  examples: [
    "openfinops costs ack 3fa9c2d1 --by kim",
    "openfinops costs ack 3fa9c2d1 --since 90d --group-by tags.team",
  ],
  async run(given) {
    const [id] = given.positionals;
    const query = readAnomalies(given);
    const acknowledged = await withBackend(given, "existing", async (backend) => {
      const found = id.includes("/") ? undefined : await findAnomaly(backend, id, query);
      await acknowledgeAnomaly(backend.documents, found?.anomalyId ?? id, readBy(given));
      return found ? describeAnomaly(found) : id;
    });
    note(`Acknowledged: ${acknowledged}.`);
  },
};

/** Finds an anomaly by the short id of the table. */
async function findAnomaly(backend: Backend, id: string, query: AnomalyQuery): Promise<CostAnomaly> {
  const found = (await listAnomalies(backend, query))
    .filter(({ anomalyId }) => id === shortIdOf(anomalyId));
  if (found.length === 1) return found[0];
  const problem = found.length === 0
    ? `There is no anomaly ${id}. Pass the options with which \`costs anomalies\` lists it.`
    : `There are ${found.length} anomalies ${id}. Pass the anomalyId that --format json lists.`;
  throw new UsageError(problem, "NOT_FOUND");
}

function rowOf(anomaly: CostAnomaly, timeZone: string, isRounded: boolean): object {
  const { startTime, kind, severity, group, currency, basis, amount, expected, deviation } = anomaly;
  const day = Temporal.Instant.fromEpochMilliseconds(startTime).toZonedDateTimeISO(timeZone).toPlainDate();
  const { anomalyId, acknowledgedAt, acknowledgedBy } = anomaly;
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
    id: shortIdOf(anomalyId),
    acknowledged: acknowledgedAt === undefined ? "no" : acknowledgedBy ?? "yes",
    anomalyId,
    acknowledgedAt,
    acknowledgedBy,
  };
}
