/**
 * Files of the dashboard, embedded in the program: from a checkout, from a registry and in one binary.
 *
 * @module
 */
import page from "../../web/index.html" with { type: "text" };
import style from "../../web/style.css" with { type: "text" };
import icon from "../../web/icon.svg" with { type: "text" };
import api from "../../web/api.js" with { type: "text" };
import budgets from "../../web/budgets.js" with { type: "text" };
import charts from "../../web/charts.js" with { type: "text" };
import clusters from "../../web/clusters.js" with { type: "text" };
import costs from "../../web/costs.js" with { type: "text" };
import data from "../../web/data.js" with { type: "text" };
import format from "../../web/format.js" with { type: "text" };
import main from "../../web/main.js" with { type: "text" };
import models from "../../web/models.js" with { type: "text" };
import series from "../../web/series.js" with { type: "text" };
import state from "../../web/state.js" with { type: "text" };
import tree from "../../web/tree.js" with { type: "text" };
import ui from "../../web/ui.js" with { type: "text" };
import uplot from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import { createHash } from "node:crypto";
import { RequestError } from "./problems.ts";
import type { Route } from "./route.ts";

const SCRIPTS: Readonly<Record<string, string>> = {
  api,
  budgets,
  charts,
  clusters,
  costs,
  data,
  format,
  main,
  models,
  series,
  state,
  tree,
  ui,
  uplot,
};

/** The files by name, with their texts. */
export const WEB_FILES: Readonly<Record<string, string>> = {
  "index.html": page,
  "read_only.html": page.replace("<html", "<html data-read-only"),
  "style.css": style,
  "uplot.css": uplotStyle,
  "icon.svg": icon,
  ...Object.fromEntries(Object.entries(SCRIPTS).map(([name, text]) => [`${name}.js`, text])),
};

const MEDIA_TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  js: "text/javascript; charset=utf-8",
};

/** Content security policy: own files and this server only, no inline scripts or styles, no frames. */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

interface WebFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly zipped: Uint8Array<ArrayBuffer>;
  readonly headers: Readonly<Record<string, string>>;
}

const files = new Map<string, Promise<WebFile>>();

/** Routes of the dashboard. The files contain no data, so they need no token. */
export const WEB_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/",
    scope: "none",
    summary: "The dashboard",
    handle: ({ request }, { isReadOnly }) => send(request, isReadOnly ? "read_only.html" : "index.html"),
  },
  {
    method: "GET",
    path: "/web/:file",
    scope: "none",
    summary: "A file of the dashboard",
    handle: ({ request, params }) => send(request, params.file),
  },
];

async function send(request: Request, name: string): Promise<Response> {
  if (!Object.hasOwn(WEB_FILES, name)) {
    throw new RequestError("The dashboard has no such file. Open / for its page.", { code: "NOT_FOUND" });
  }
  const file = files.getOrInsertComputed(name, () => prepare(name));
  const { bytes, zipped, headers } = await file;
  if (request.headers.get("if-none-match") === headers.etag) {
    return new Response(null, { status: 304, headers });
  }
  const isZipped = /\bgzip\b/.test(request.headers.get("accept-encoding") ?? "");
  return new Response(isZipped ? zipped : bytes, {
    headers: { ...headers, ...(isZipped ? { "content-encoding": "gzip" } : {}) },
  });
}

async function prepare(name: string): Promise<WebFile> {
  const bytes = new TextEncoder().encode(WEB_FILES[name]);
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return {
    bytes,
    zipped: new Uint8Array(await new Response(stream).arrayBuffer()),
    headers: {
      "content-type": MEDIA_TYPES[name.slice(name.lastIndexOf(".") + 1)],
      // Revalidated each time, so that an update of the server shows at once.
      "cache-control": "no-cache",
      "etag": `"${createHash("sha256").update(bytes).digest("base64url").slice(0, 22)}"`,
      "vary": "accept-encoding",
      "content-security-policy": CONTENT_SECURITY_POLICY,
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
      "cross-origin-resource-policy": "same-origin",
    },
  };
}
