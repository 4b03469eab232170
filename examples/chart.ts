// Sum costs by day and team, and plot them: deno add npm:simple-ascii-chart
import { CostObservatory } from "@openfinops/telemetry";
import plot from "simple-ascii-chart";

const DAY = 24 * 3_600_000;
const startTime = Date.UTC(2026, 0, 1);
await using costs = new CostObservatory();
for (let day = 0; day < 14; day++) {
  const timestamp = startTime + day * DAY;
  const entry = { timestamp, resourceId: "cluster", category: "gpu" };
  await costs.entries.add({ ...entry, entryId: `n${day}`, amount: "0.1", tags: { team: "nlp" } });
  await costs.entries.add({ ...entry, entryId: `v${day}`, amount: `${day}.01`, tags: { team: "vision" } });
}

for (const { group, total, currency } of await costs.entries.aggregate({ groupBy: ["tags.team"] })) {
  console.log(group?.["tags.team"], total, currency); // vision 91.14 USD, nlp 1.4 USD
}
const byDay = await costs.entries.aggregate({
  startTime,
  endTime: startTime + 14 * DAY,
  bucket: "1d",
  groupBy: ["tags.team"],
  emptyBuckets: true, // days without costs are 0
});
const lineOf = (team: string): [number, number][] =>
  byDay.filter(({ group }) => group?.["tags.team"] === team)
    .map(({ startTime, total }) => [new Date(startTime!).getUTCDate(), Number(total)]);
console.log(
  plot([lineOf("nlp"), lineOf("vision")], { width: 60, height: 8, title: "USD by day of January" }),
);
