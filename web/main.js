// @ts-check
/** The page: navigation, filters, and the page that the address names. */
import { ask, rowsOf, setToken, takeToken } from "./api.js";
import { budgetsPage } from "./budgets.js";
import { clustersPage } from "./clusters.js";
import { costsPage } from "./costs.js";
import { dataPage } from "./data.js";
import { modelsPage } from "./models.js";
import { isZone, months, PRESETS, readState, writeState } from "./state.js";
import { dateTime } from "./format.js";
import { h, toDom } from "./tree.js";
import { code, field, quiet, select, suggestions } from "./ui.js";

/** @import { Params } from "./api.js" */
/** @import { State } from "./state.js" */

/**
 * Context of a page.
 *
 * @typedef {object} Context
 * @property {State} state
 * @property {AbortSignal} signal Aborts when another page or question takes over: its requests end.
 * @property {(path: string, params?: Params) => Promise<any>} ask Asks a route of the API.
 * @property {(path: string, params?: Params) => Promise<any[]>} rows Rows of the answer of a route.
 * @property {(load: () => Promise<any>) => () => Promise<any>} once Shares what is loaded until the next refresh.
 * @property {(() => void)[]} refreshers Called by `refresh`.
 * @property {() => void} refresh Loads all parts of the page again.
 * @property {(changes: Partial<State>) => void} go Moves to a changed address.
 * @property {(changes: Partial<State>) => string} to The address of a change.
 * @property {(error: Error) => void} askForToken
 * @property {() => void} redraw Draws the filters again, when there is more to choose from.
 */

/**
 * Addresses for a part with links; a report has none.
 *
 * @typedef {object} Links
 * @property {any} state
 * @property {(changes: any) => string | undefined} to
 */

/**
 * @typedef {object} Page
 * @property {string} name
 * @property {string} title
 * @property {readonly ("range" | "zone")[]} filters
 * @property {(context: Context) => any} show Returns the tree of the page.
 * @property {(context: Context) => any} [tools] More filters.
 */

/** @type {readonly Page[]} */
const PAGES = [costsPage, budgetsPage, clustersPage, modelsPage, dataPage];
/** Time between live refreshes, in milliseconds. */
const LIVE_MS = 10_000;

let controller = new AbortController();
/** @type {Context | undefined} */
let current;

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

function show() {
  takeToken();
  const state = readState(location.hash);
  const page = PAGES.find(({ name }) => name === state.page) ?? PAGES[0];
  state.page = page.name;
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  let oldest = Infinity;
  byId("as-of").textContent = "";
  const onRead = (/** @type {number} */ time) => {
    if (signal.aborted) return;
    oldest = Math.min(oldest, time);
    byId("as-of").textContent = `As of ${dateTime(oldest, state.zone)} (${state.zone})`;
  };
  /** @type {Context} */
  const context = {
    state,
    signal,
    ask: (path, params) => ask(path, params, { signal, onRead }),
    rows: async (path, params) => rowsOf(await context.ask(path, params)),
    once(load) {
      /** @type {Promise<any> | undefined} */
      let found;
      context.refreshers.push(() => found = undefined);
      return () => found ??= load();
    },
    refreshers: [],
    refresh() {
      oldest = Infinity;
      for (const refresh of context.refreshers) refresh();
    },
    go: (changes) => location.assign(writeState({ ...state, ...changes })),
    to: (changes) => writeState({ ...state, ...changes }),
    askForToken,
    redraw: () => keepFocus(() => byId("filters").replaceChildren(toDom(filtersOf(page, context)))),
  };
  byId("notice").hidden = true;
  const isOther = current?.state.page !== page.name || current.state.more.budget !== state.more.budget;
  current = context;
  document.title = `${page.title} · OpenFinOps`;
  document.documentElement.dataset.theme = state.theme || "auto";
  const links = PAGES.map(({ name, title }) => {
    const href = context.to({ page: name, more: {} });
    return h("a", { href, "aria-current": name === page.name && "page" }, title);
  });
  keepFocus(() => {
    byId("nav").replaceChildren(toDom(links));
    byId("tools").replaceChildren(toDom(toolsOf(context)));
    byId("filters").replaceChildren(toDom(filtersOf(page, context)));
  });
  const hadFocus = byId("main").contains(document.activeElement);
  byId("main").replaceChildren(toDom([h("h1", { class: "hidden" }, page.title), page.show(context)]));
  byId("main").dataset.address = location.hash; // tests wait for it
  if (hadFocus) byId("main").focus({ preventScroll: true }); // what had it is gone
  if (isOther) scrollTo(0, 0);
}

/** Keeps the focus on a field that is redrawn. @param {() => void} draw */
function keepFocus(draw) {
  const id = document.activeElement?.id;
  draw();
  if (id) document.getElementById(id)?.focus();
}

/** @param {Context} context */
function toolsOf({ state, go }) {
  const onchange = () => go({ live: !state.live });
  const live = h("input", { type: "checkbox", id: "live", checked: state.live, onchange });
  return [
    h("label", { class: "check" }, live, "Live"),
    select("Theme", {
      value: state.theme,
      options: [["", "Auto"], ["light", "Light"], ["dark", "Dark"]],
      onchange: (theme) => go({ theme }),
    }),
  ];
}

/** @param {Page} page @param {Context} context */
function filtersOf(page, context) {
  const { state, go } = context;
  const isOwn = state.range.includes("..");
  const all = Object.entries(PRESETS);
  for (const month of months(state.zone)) all.push([month, month]);
  if (!isOwn && !all.some(([value]) => value === state.range)) all.push([state.range, state.range]);
  const [from, until = ""] = isOwn ? state.range.split("..") : [];
  /** @param {string} label @param {string} value @param {(value: string) => void} set */
  const date = (label, value, set) => {
    const onchange = (/** @type {any} */ event) => set(event.target.value);
    return field(label, { type: "date", id: label.toLowerCase(), value: value.slice(0, 10), onchange });
  };
  const today = new Date().toISOString().slice(0, 10);
  return [
    page.filters.includes("range") && select("Range", {
      value: isOwn ? ".." : state.range,
      options: [...all, ["..", "From … until …"]],
      onchange: (range) => go({ range: range === ".." ? `${today}..` : range }),
    }),
    page.filters.includes("range") && isOwn && [
      date("From", from, (value) => value && go({ range: `${value}..${until}` })),
      date("Until", until, (value) => go({ range: `${from}..${value}` })),
    ],
    page.filters.includes("zone") && zoneField(context),
    page.tools?.(context),
  ];
}

/** @param {Context} context */
function zoneField({ state, go }) {
  const own = new Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zones = [...new Set(["UTC", own, ...Intl.supportedValuesOf("timeZone")])];
  const onchange = (/** @type {any} */ { target }) => {
    if (isZone(target.value)) go({ zone: target.value });
    else target.value = state.zone;
  };
  const attributes = { id: "zone", list: "zones", value: state.zone, onchange };
  return field("Time zone", attributes, suggestions("zones", zones));
}

/** @param {Error} error */
function askForToken(error) {
  if (byId("main").querySelector(".token")) return;
  controller.abort();
  const onsubmit = (/** @type {any} */ event) => {
    event.preventDefault();
    setToken(String(new FormData(event.target).get("token") ?? "").trim());
    show();
  };
  byId("main").replaceChildren(toDom(h("form", { class: "token panel", onsubmit }, [
    h("h2", {}, "This server asks for a token"),
    h("p", {}, error.message),
    field("Token with the scope “read”", { name: "token", type: "password", required: true }),
    h("button", { type: "submit" }, "Continue"),
    quiet("Create one: ", code("openfinops token create NAME --scope read"), ". It stays in this tab only."),
  ])));
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
setInterval(() => {
  if (!current?.state.live || document.hidden) return;
  if (byId("main").querySelector('[aria-busy="true"]')) return; // a busy server gets no further requests
  current.refresh();
}, LIVE_MS);
addEventListener("hashchange", show);
show();
