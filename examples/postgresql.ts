// Store costs in PostgreSQL, and restate one that a vendor has corrected.
import { CostObservatory } from "@openfinops/telemetry";

await using costs = await CostObservatory.open({
  // Missing parts come from PGHOST, PGPORT, PGUSER, PGPASSWORD and ~/.pgpass, as for psql.
  connectionString: Deno.args[0] ?? "postgresql:///example",
  onConflict: "replace",
});
const invoice = [
  { entryId: "inv-1", resourceId: "gpu-01", category: "gpu", amount: "12.50", region: "eu-west-1" },
  { entryId: "inv-2", resourceId: "bucket", category: "storage", amount: "0.0234", region: "eu-west-1" },
  { entryId: "inv-3", resourceId: "gpu-02", category: "gpu", amount: "4.25", currency: "EUR" },
];
const timestamp = new Date("2026-01-31T12:00:00Z");
for (const entry of invoice) await costs.entries.add({ ...entry, timestamp });
await costs.entries.add({ ...invoice[0], timestamp, amount: "11.75" }); // the same cost, corrected
await costs.flush(); // committed in the database

const span = { startTime: timestamp, endTime: timestamp.getTime() + 1 };
for (const { group, currency, total } of await costs.entries.aggregate({ ...span, groupBy: ["category"] })) {
  console.log(group?.category, total, currency); // gpu 4.25 EUR, gpu 11.75 USD, storage 0.0234 USD
}
