// Import a vendor's CSV into a file, move to another database, and export for finance.
import { exportRecords, importRecords, migrate, openBackend } from "@openfinops/telemetry";

const csv = `Id,Hour,Cost,What
1,2026-01-31T12:00Z,8e-7,gpu-01
2,2026-01-31T13:00Z,0.25,gpu-01
3,2026-01-31T13:00Z,one,gpu-02
`;
const from = await openBackend({ connectionString: "sqlite:///vendor.db" });
const to = await openBackend({ connectionString: Deno.args[0] ?? "sqlite:///finance.db" });

const { delivery: _, ...counts } = await importRecords(new Blob([csv]).stream(), {
  backend: from,
  dataset: "cost_entries",
  format: "csv",
  map: { entryId: "Id", timestamp: "Hour", amount: "Cost", resourceId: "What" },
  set: { category: "gpu", currency: "USD" },
  onReject: ({ line, reason }) => console.error(`line ${line}: ${reason}`),
});
console.log(counts); // two are stored, one is rejected; a second run finds two duplicates

const [{ isSame, source, target }] = await migrate(from, to, { datasets: ["cost_entries"] });
console.log(isSame, source.totals, target.totals); // true, and 0.2500008 USD on both sides

const focus = await exportRecords({ backend: to, dataset: "cost_entries", format: "focus" });
console.log(await new Response(focus).text()); // to a file: focus.pipeTo(file.writable)
await from.close();
await to.close();
