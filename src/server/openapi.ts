import project from "../../deno.json" with { type: "json" };
import type { Column, Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { jsonBody, type Route, type RouteBody } from "./route.ts";

/** JSON of an OpenAPI document or a part of it. */
type Json = Readonly<Record<string, unknown>>;

/** Creates the route that describes all others. */
export function openApiRoute(routes: readonly Route[]): Route {
  let document: Json | undefined;
  const route: Route = {
    method: "GET",
    path: "/openapi.json",
    scope: "read",
    summary: "Describes all routes as OpenAPI 3.1",
    answer: jsonBody("The document"),
    handle: () => Response.json(document ??= openApiDocument([...routes, route])),
  };
  return route;
}

/** Derives the OpenAPI document from routes and datasets. */
export function openApiDocument(routes: readonly Route[]): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    (paths[pathOf(route)] ??= {})[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "OpenFinOps telemetry",
      version: project.version,
      license: { name: project.license, identifier: project.license },
    },
    paths,
    components: {
      schemas: {
        ...Object.fromEntries(Object.values(DATASETS).map((dataset) => [dataset.name, schemaOf(dataset)])),
        error: ERROR,
      },
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
    },
  };
}

const ERROR: Json = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["code", "message"],
      properties: {
        code: { type: "string", description: "Stable name of the error" },
        message: { type: "string", description: "What happened, then what to do" },
      },
    },
  },
};

function pathOf({ path }: Route): string {
  return path.replaceAll(/:(\w+)(\{[^}]*\})?/g, "{$1}");
}

function operationOf(route: Route): Json {
  const { method, path, scope, summary, parameters = [], body, answer } = route;
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const inQuery = parameters.map(({ name, value, summary, isRepeatable }) => {
    const one = { type: value === undefined ? "boolean" : "string" };
    return {
      name,
      in: "query",
      description: summary,
      schema: isRepeatable ? { type: "array", items: one } : one,
    };
  });
  return {
    operationId: `${method.toLowerCase()}${
      path.replaceAll(/[^A-Za-z0-9]+(.)?/g, (_, next = "") => next.toUpperCase())
    }`,
    summary,
    security: scope === "none" ? [] : [{ token: [scope] }],
    parameters: [...inPath, ...inQuery],
    ...body && { requestBody: { required: true, ...contentOf(body) } },
    responses: {
      "2XX": answer ? contentOf(answer) : { description: summary },
      default: {
        description: "An error",
        content: { "application/json": { schema: { $ref: "#/components/schemas/error" } } },
      },
    },
  };
}

/** A body in each of its media types. JSON of records is an array of them; a line of NDJSON is one. */
function contentOf({ summary, types, dataset, schema }: RouteBody): Json {
  const record = dataset === undefined ? undefined : { $ref: `#/components/schemas/${dataset}` };
  const content = types.map((type) => {
    if (!type.includes("json")) return [type, {}];
    if (!record) return [type, schema ? { schema } : {}];
    return [type, { schema: type.includes("ndjson") ? record : { type: "array", items: record } }];
  });
  return { description: summary, content: Object.fromEntries(content) };
}

/** Schema of a record, from its columns. */
function schemaOf({ columns }: Dataset<unknown>): Json {
  const required = columns.filter(({ required, default: value }) => required && value === undefined);
  return {
    type: "object",
    properties: Object.fromEntries(columns.map((column) => [column.field, fieldOf(column)])),
    required: required.map(({ field }) => field),
    additionalProperties: false,
  };
}

function fieldOf({ type, oneOf, default: value, maxLength, min }: Column): Json {
  return {
    ...TYPES[type],
    ...type === "text" && { maxLength },
    ...oneOf && { enum: oneOf },
    ...value !== undefined && { default: value },
    ...min > -Infinity && { minimum: min },
  };
}

const TYPES: Readonly<Record<Column["type"], Json>> = {
  timestamp: { type: ["string", "integer"], description: "ISO 8601, or epoch milliseconds" },
  text: { type: "string" },
  real: { type: "number" },
  integer: { type: "integer" },
  boolean: { type: "boolean" },
  decimal: { type: ["string", "number"], description: "Exact decimal, written as a string" },
  map: { type: "object", additionalProperties: { type: "string" } },
};
