// Store costs in a DuckDB file, and sum them by day and team.
import { CostCategory, CostObservatory } from "@openfinops/telemetry";

// Deno downloads DuckDB from npm at the first run. One process has the file.
await using costs = await CostObservatory.open({ connectionString: "duckdb:///example.duckdb" });

for (let hour = 0; hour < 48; hour++) {
  await costs.entries.add({
    entryId: `hour-${hour}`, // identifies the cost, with the timestamp: a second run stores nothing
    timestamp: Date.UTC(2026, 0, 30, hour),
    resourceId: "gpu-01",
    category: CostCategory.GPU,
    amount: "2.50",
    tags: { team: hour % 2 === 0 ? "nlp" : "vision" },
  });
}
await costs.flush(); // committed in the file

const days = await costs.entries.aggregate({ bucket: "1d", groupBy: ["tags.team"] });
for (const { startTime, group, total, currency } of days) {
  console.log(new Date(startTime!).toISOString().slice(0, 10), group!["tags.team"], total, currency);
}
