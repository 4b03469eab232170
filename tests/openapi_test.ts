import { Validator } from "@seriousme/openapi-schema-validator";
import { DATASETS } from "../src/records/datasets.ts";
import { openApiDocument } from "../src/server/openapi.ts";
import { ROUTES } from "../src/server/routes.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { openServer } from "./server.ts";

Deno.test("/openapi.json is valid OpenAPI 3.1 with every route and every field", async () => {
  await using server = await openServer();
  const document = (await server.send("/openapi.json")).json();
  const { valid, errors } = await new Validator().validate(structuredClone(document));
  assert(valid, JSON.stringify(errors));
  assertMatch(document.openapi, /^3\.1\./);
  for (const { method, path, scope } of ROUTES) {
    const operation = document.paths[path.replaceAll(/:(\w+)/g, "{$1}")]?.[method.toLowerCase()];
    assert(operation, `${method} ${path}`);
    assertEquals(operation.security, scope === "none" ? [] : [{ token: [scope] }]);
  }
  for (const { name, columns } of Object.values(DATASETS)) {
    const { properties, required } = document.components.schemas[name];
    assertEquals(Object.keys(properties), columns.map(({ field }) => field), name);
    assert(required.includes("timestamp"));
  }
  const ids = Object.values<Record<string, { operationId: string }>>(document.paths)
    .flatMap((operations) => Object.values(operations).map(({ operationId }) => operationId));
  assertEquals(new Set(ids).size, ids.length);
  assertEquals(document, JSON.parse(JSON.stringify(openApiDocument(ROUTES))));
});
