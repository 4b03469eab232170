/**
 * Dashboards of Grafana: files are current, and each statement runs on PostgreSQL and TimescaleDB. Grafana itself runs in no
 * test; its macros and variables are replaced here as its documentation says.
 *
 * @module
 */
import { parse } from "yaml";
import { CostObservatory, ObservabilityHub } from "../mod.ts";
import { dashboardFiles } from "../scripts/grafana.ts";
import { DASHBOARDS, type PanelSpec, type VariableSpec } from "../scripts/grafana_dashboards.ts";
import { assert, assertEquals } from "./assert.ts";
import { TestDatabase, timescaleVersion } from "./postgres_server.ts";

const FOLDER = new URL("../deploy/grafana/", import.meta.url);
const HOUR_MS = 3_600_000;
const END = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
const START = END - 48 * HOUR_MS;
const VALUES: Readonly<Record<string, readonly string[]>> = {
  currency: ["USD"],
  basis: ["billed"],
  tag: ["team"],
  cluster: ["prod", "o'neil"],
  node: ["node-0", "node-1"],
};

/** A statement as Grafana sends it. */
function expand(sql: string): string {
  const time = (ms: number) => `'${new Date(ms).toISOString()}'`;
  const expanded = sql
    .replaceAll(
      /\$\{(\w+):sqlstring\}/g,
      (_, name) => VALUES[name].map((value) => `'${value.replaceAll("'", "''")}'`).join(","),
    )
    .replaceAll("$__interval", "30m")
    .replaceAll(/\$__timeFilter\((\w+)\)/g, `$1 BETWEEN ${time(START)} AND ${time(END)}`)
    .replaceAll(/\$__timeGroupAlias\((\w+), '?(\d+)([md])'?\)/g, (_, column, count, unit) => {
      const seconds = Number(count) * (unit === "d" ? 86_400 : 60);
      return `floor(extract(epoch from ${column})/${seconds})*${seconds} AS "time"`;
    })
    .replaceAll("$__timeFrom()", time(START))
    .replaceAll("$__timeTo()", time(END));
  assert(!expanded.includes("$"), `${expanded} has a macro that this test does not know`);
  return expanded;
}

/** Stores two days of each dataset. */
async function fill(connectionString: string): Promise<void> {
  await using hub = await ObservabilityHub.open({ connectionString });
  await using costs = await CostObservatory.open({ connectionString });
  for (let timestamp = START - 48 * HOUR_MS; timestamp < END; timestamp += HOUR_MS) {
    for (const [i, clusterId] of VALUES.cluster.entries()) {
      const node = { timestamp, clusterId, nodeId: `node-${i}` };
      await hub.systemMetrics.add({
        ...node,
        cpuUsage: 50,
        memoryUsage: 60,
        gpuUsage: 3,
        powerConsumption: 9,
        costPerHour: 2.5,
      });
      await hub.deviceMetrics.add({
        ...node,
        deviceId: `GPU-${i}`,
        model: "H100",
        utilization: 3,
        memoryUsed: 1,
        memoryTotal: 4,
        temperature: 60,
        powerConsumption: 300,
        errorCode: 79,
      });
      await costs.addCostEntry({
        entryId: `${timestamp} ${i}`,
        timestamp,
        resourceId: `i-${i}`,
        category: "compute",
        amount: "0.25",
        currency: "USD",
        tags: i === 0 ? { team: "nlp" } : {},
      });
      await costs.addCostEntry({
        entryId: `${timestamp} ${i} gpt`,
        timestamp,
        resourceId: "gpt",
        category: "AI and Machine Learning",
        amount: "0.1",
        currency: "USD",
        basis: "estimated",
        source: "prices",
      });
      await costs.usage.add({
        usageId: `${timestamp} ${i}`,
        timestamp,
        provider: "openai",
        model: "gpt",
        inputTokens: 10,
        outputTokens: 2,
        durationMs: 5,
        timeToFirstTokenMs: 1,
      });
    }
    await hub.serviceMetrics.add({
      timestamp,
      serviceName: "api",
      status: "healthy",
      requestRate: 7,
      responseTime: 12,
      successRate: 99,
      restartCount: 0,
    });
  }
}

const statements: readonly { name: string; sql: string }[] = DASHBOARDS.flatMap((
  { title, variables, rows },
) => [
  ...variables.filter(({ sql }) => sql !== undefined)
    .map(({ name, sql }: VariableSpec) => ({ name: `${title}, variable ${name}`, sql: sql! })),
  ...Object.values(rows).flat().map(({ title: panel, sql }: PanelSpec) => ({
    name: `${title}, ${panel}`,
    sql,
  })),
]);

const hasTimescale = (await timescaleVersion()).version !== undefined;

for (const protocol of ["postgresql:", ...hasTimescale ? ["timescaledb:"] : []]) {
  Deno.test(`each statement of the dashboards of Grafana returns rows on ${protocol.slice(0, -1)}`, async () => {
    await using database = await TestDatabase.create();
    await fill(database.url.replace(/^\w+:/, protocol));
    for (const { name, sql } of statements) {
      const rows = await database.sql(expand(sql));
      assert(rows.length > 0, `${name} returns no rows: ${expand(sql)}`);
      assert(
        rows.some((row) => Object.values(row).every((value) => value !== null)),
        `${name} returns nulls only`,
      );
    }
    const totals = statements.filter(({ name }) => /Total$|Same time before|Without/.test(name));
    const [total, before, untagged] = await Promise.all(totals.map(({ sql }) => database.sql(expand(sql))));
    // 48 hours of two resources at 0.25; estimated costs are not in it. Half of them have the tag.
    assertEquals([total[0].Total, before[0].Before, untagged[0].Untagged].map(Number), [24, 24, 50]);
  });
}

Deno.test("files of the dashboards of Grafana are current", () => {
  for (const [name, text] of dashboardFiles()) {
    const file = Deno.readTextFileSync(new URL(`dashboards/${name}`, FOLDER));
    assertEquals(JSON.parse(file), JSON.parse(text), "run: deno task grafana");
  }
});

Deno.test("provisioning of Grafana names a PostgreSQL data source and the folder of the dashboards", () => {
  const read = (path: string) =>
    parse(Deno.readTextFileSync(new URL(`provisioning/${path}/openfinops.yaml`, FOLDER)));
  const [source] = read("datasources").datasources;
  assertEquals([source.type, source.jsonData.timescaledb], ["postgres", false]);
  const [provider] = read("dashboards").providers;
  assertEquals([provider.type, provider.options.path], ["file", "/var/lib/grafana/dashboards/openfinops"]);
});
