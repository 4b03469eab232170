/** Changes to what the server takes of OpenTelemetry and Prometheus. */
import type { Mutation } from "../mutations.ts";

export const INTAKE: readonly Mutation[] = [
  {
    name: "intake-held",
    file: "src/server/metric_intake.ts",
    before: "    this.#hold(request.id, records);\n",
    after: "",
    tests: ["metric_intake_test.ts: Growth of counters is stored"],
  },
  {
    name: "intake-request-id",
    file: "src/server/request_id.ts",
    before: ".update(body)",
    after: ".update(crypto.randomUUID())",
    tests: ["metric_intake_test.ts: are stored once in SQLite"],
  },
  {
    name: "intake-position",
    file: "src/transfer/samples_to_records.ts",
    before: "return { dataset, record, samples, position };",
    after: "return { dataset, record, samples, position: 0 };",
    tests: ["metric_intake_test.ts: stored by its position"],
  },
  {
    name: "intake-tenant",
    file: "src/server/metric_intake.ts",
    before: "if (tenant !== undefined && map === undefined) return refuseAll(run, tenant);",
    after: "",
    tests: ["metric_intake_test.ts: tenant of a token"],
  },
  {
    name: "intake-retryable",
    file: "src/server/otlp_routes.ts",
    before: "mayPass && !RETRYABLE.includes(problem.status) ? 503",
    after: "mayPass && !RETRYABLE.includes(problem.status) ? 500",
    tests: ["metric_intake_test.ts: told to try again"],
  },
  {
    name: "counter-late",
    file: "src/transfer/counter_readings.ts",
    before: "if (last && time <= last.time) return undefined;",
    after: "if (last && time === last.time) return undefined;",
    tests: ["otlp_test.ts: Token metrics become usage"],
  },
  {
    name: "counter-forgotten",
    file: "src/transfer/counter_readings.ts",
    before: "    this.#since = Math.max(this.#since, time);\n",
    after: "",
    tests: ["otlp_test.ts: forgets the oldest series"],
  },
  {
    name: "snappy-declared",
    file: "src/server/prometheus/remote_write.ts",
    before: "if (length > 22 * bytes.length) throw notSnappy();",
    after: "",
    tests: ["remote_write_test.ts: refused before they take"],
  },
  {
    name: "remote-write-stale",
    file: "src/server/prometheus/remote_write.ts",
    before: "return isStale ? undefined : point;",
    after: "return point;",
    tests: ["remote_write_test.ts: drop stale markers"],
  },
  {
    name: "protobuf-bounds",
    file: "src/server/protobuf.ts",
    before: "if (this.pos !== end) throw cutShort();",
    after: "",
    tests: ["otlp_test.ts: no request of OTLP"],
  },
];
