/**
 * The server of telemetry and costs, as a `fetch` handler and as a listener.
 *
 * @module
 */
export { type Access, type Grant, OPEN_ACCESS, TokenAccess, type TokenAccessOptions } from "./access.ts";
export { type Answered, type App, type AppOptions, createApp } from "./app.ts";
export type { BodyLimits } from "./body.ts";
export type { Limits } from "./limits.ts";
export { RequestError } from "./problems.ts";
export type { MetricFamily, Sample } from "./prometheus_text.ts";
export { type AnsweredRequest, RequestMetrics } from "./request_metrics.ts";
export { type OpenedResources, openResources } from "./resources.ts";
export type { Route, RouteBody, RouteRequest, Scope, ServerResources } from "./route.ts";
export type { Option } from "../query/arguments.ts";
export { type ConnectionLimits, type Listening, serve, type ServeOptions } from "./serve.ts";
export type { Certificate } from "./tls.ts";
export { readTokens, type Token } from "./tokens.ts";
