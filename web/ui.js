// @ts-check
/** Parts that the pages share: panels, cards, tables, charts with a pointer, empty and error states. */
import { ApiError } from "./api.js";
import { plotOf } from "./charts.js";
import { change, count, csvLine, money, short } from "./format.js";
import { h, onResize, toDom, toElement } from "./tree.js";

/** @import { Context } from "./main.js" */

/** An amount, rounded as the command does; the exact one is shown on hover. @param {string} amount @param {string} currency */
export function amount(amount, currency) {
  return h("data", { class: "num", value: amount, title: `${amount} ${currency}` }, money(amount, currency));
}

/** A change in percent with its direction. @param {number | undefined} value */
export function changeOf(value) {
  const kind = value === undefined || Math.abs(value) < 0.05 ? "" : value > 0 ? " up" : " down";
  const sign = { "": "", " up": "▲ ", " down": "▼ " }[kind];
  return h("span", { class: `change${kind}` }, sign, change(value));
}

/** A card with one number. @param {string} label @param {any} value @param {any} [more] */
export function card(label, value, more) {
  return h(
    "div",
    { class: "card" },
    h("h3", {}, label),
    h("p", { class: "figure" }, value),
    more && quiet(more),
  );
}

/** Statuses by the color of their badge. */
const BADGES = {
  good: ["healthy", "running", "under_budget", "resolved", "ok"],
  warn: ["warning", "approaching_limit", "medium", "budget_exhausted", "degraded"],
  bad: ["high", "critical", "down", "over_budget", "emergency"],
};

/** Sign of a state, with its word: color alone says nothing. @param {string} status */
export function badge(status) {
  const [kind = ""] = Object.entries(BADGES).find(([, statuses]) => statuses.includes(status)) ?? [];
  return h("span", { class: `badge ${kind}`.trim() }, status.replaceAll("_", " "));
}

/** @typedef {{ title: any, cell: (row: any) => any, kind: string }} Column */

/** Makes columns of a kind. @param {string} kind @returns {(title: any, cell: (row: any) => any) => Column} */
const columnsOf = (kind) => (title, cell) => ({ title, cell, kind });
export const text = columnsOf("");
export const num = columnsOf("num");
export const when = columnsOf("when");
/** Columns that narrow windows hide. */
export const wide = { text: columnsOf("wide"), num: columnsOf("num wide") };

/**
 * A table that scrolls sideways where it does not fit.
 * @param {string} caption @param {any[]} rows @param {Column[]} columns
 */
export function table(caption, rows, columns) {
  const heads = columns.map(({ title, kind }) => h("th", { scope: "col", class: kind }, title));
  const cellsOf = (/** @type {any} */ row) =>
    columns.map(({ cell, kind }) => h("td", { class: kind }, cell(row)));
  const lines = rows.map((row) => h("tr", {}, cellsOf(row)));
  const head = [h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heads))];
  return scroll(caption, h("table", {}, head, h("tbody", {}, lines)));
}

/** A part that scrolls sideways, also by the keyboard. @param {string} label @param {any} content */
export const scroll = (label, content) =>
  h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, content);

/** @param {...any} children */
export const quiet = (...children) => h("p", { class: "quiet" }, children);

/** Text for screen readers only. @param {string} text */
export const hidden = (text) => h("span", { class: "hidden" }, text);

/** @param {string} command */
export const code = (command) => h("code", {}, command);

/** @param {string | undefined} href @param {any} content */
export const link = (href, content) => href === undefined ? content : h("a", { href }, content);

/** @param {...any} children */
export const cards = (...children) => h("div", { class: "cards" }, children);

/** A value, or a dash where there is none. @template T @param {T | null | undefined} value @param {(value: T) => any} show */
export const or = (value, show) => value === undefined || value === null ? "–" : show(value);

/** A number in short with its unit, or a dash. @param {number | null | undefined} value */
export const shortOr = (value, unit = "") => or(value, (value) => `${short(value)}${unit}`);

/** An amount with its currency. @param {string} value @param {string} currency */
export const priced = (value, currency) => [amount(value, currency), ` ${currency} `];

/** A large number, all digits on hover. @param {number} value */
export const big = (value) => h("span", { title: count(value) }, short(value));

/** A state without data: what is absent, and the next command. @param {string} text @param {string} [command] */
export const empty = (text, command) =>
  h("div", { class: "empty" }, h("p", {}, text, command && [" Run ", code(command), "."]));

/** @param {unknown} error */
function failure(error) {
  const told = error instanceof ApiError
    ? [
      h("p", {}, error.message),
      quiet(`Code ${error.code}. The guide “Troubleshooting” lists what to do.`),
      error.status === 0 && h("p", {}, "Start it again: ", code("openfinops dashboard")),
    ]
    : h("p", {}, `This part could not be shown: ${error instanceof Error ? error.message : error}`);
  return h("div", { class: "failure", role: "alert" }, told);
}

/**
 * A part of a page that loads by itself.
 * @param {Context} context
 * @param {{ title?: string, kind?: string, tools?: any }} options
 * @param {() => Promise<any>} load Returns the tree of its content.
 * @returns {HTMLElement}
 */
export function panel(context, { title, kind = "", tools }, load) {
  const body = toElement(h("div", { class: "body" }, h("div", { class: "skeleton", "aria-hidden": "true" })));
  const head = h("div", { class: title ? "head" : "hidden" }, h("h2", {}, title || "Summary"), tools);
  const section = toElement(h("section", { class: `panel ${kind}`, "aria-busy": "true" }, head, body));
  const refresh = async () => {
    section.setAttribute("aria-busy", "true");
    try {
      const found = toDom(await load());
      if (context.signal.aborted) return;
      body.replaceChildren(found);
    } catch (error) {
      if (context.signal.aborted) return;
      if (error instanceof ApiError && [401, 403].includes(error.status)) context.askForToken(error);
      body.replaceChildren(toDom(failure(error)));
    }
    section.setAttribute("aria-busy", "false");
  };
  context.refreshers.push(refresh);
  refresh();
  return section;
}

/** Puts the tip beside a place of a box. @param {HTMLElement} tip @param {HTMLElement} box @param {number} x */
function placeBeside(tip, box, x) {
  const area = box.getBoundingClientRect();
  const middle = area.left + x;
  const width = tip.offsetWidth;
  const beside = middle > innerWidth / 2 ? middle - width - 14 : middle + 14;
  tip.style.left = `${Math.max(8, Math.min(innerWidth - width - 8, beside)) + scrollX}px`;
  tip.style.top = `${area.top + 12 + scrollY}px`;
}

/**
 * A chart that tells about the place under the pointer, and under the arrow keys.
 * @param {object} options
 * @param {(width: number) => any} options.draw Draws the chart for a width.
 * @param {number} options.count Number of places.
 * @param {(index: number) => any} options.tell Content of the tip of a place.
 * @param {(index: number) => void} [options.choose] Called on a click, or Enter.
 * @param {AbortSignal} options.signal
 */
export function chart({ draw, count: places, tell, choose, signal }) {
  const box = toElement(h("div", { class: "chart-box", tabindex: 0 }));
  const tip = /** @type {HTMLElement} */ (document.getElementById("tip"));
  let width = 0;
  let at = -1;
  const plot = () => plotOf({ width, count: places });
  const steps = new Map([["ArrowLeft", -1], ["ArrowRight", 1], ["Home", -places], ["End", places]]);
  const redraw = () => {
    const now = Math.max(260, Math.floor(box.clientWidth));
    if (now === width) return;
    width = now;
    box.replaceChildren(toDom(draw(width)));
  };
  const show = (/** @type {number} */ index) => {
    at = Math.max(0, Math.min(places - 1, index));
    const { left, step } = plot();
    const hover = box.querySelector(".hover");
    hover?.setAttribute("x", String(left + at * step));
    hover?.setAttribute("visibility", "visible");
    tip.replaceChildren(toDom(tell(at)));
    tip.hidden = false;
    placeBeside(tip, box, left + (at + 0.5) * step);
  };
  const hide = () => {
    tip.hidden = true;
    box.querySelector(".hover")?.setAttribute("visibility", "hidden");
  };
  box.addEventListener("pointermove", (event) => {
    const { left, step } = plot();
    show(Math.floor((event.clientX - box.getBoundingClientRect().left - left) / step));
  });
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("click", () => at >= 0 && choose?.(at));
  box.addEventListener("keydown", (event) => {
    const step = steps.get(event.key);
    if (step !== undefined) {
      event.preventDefault();
      show(at < 0 && step > 0 ? 0 : at + step);
    } else if (event.key === "Enter" && at >= 0) choose?.(at);
    else if (event.key === "Escape") hide();
  });
  onResize(box, redraw, signal);
  signal.addEventListener("abort", hide);
  return box;
}

/** A tip: rows of colored names with values. @param {string} title @param {{ name: string, color?: number, value: any }[]} rows */
export function tipOf(title, rows) {
  const lines = rows.map(({ name, color, value }) => [
    h("dt", {}, color === undefined ? "" : swatch(color), name),
    h("dd", {}, value),
  ]);
  return [h("strong", {}, title), h("dl", {}, lines)];
}

/** @param {number} color */
export function swatch(color) {
  const size = { width: 10, height: 10 };
  const square = h("rect", { class: `s${color}`, ...size, rx: 2 });
  return h("svg", { class: "swatch", viewBox: "0 0 10 10", ...size, "aria-hidden": "true" }, square);
}

/** Saves rows as a CSV file. @param {string} name @param {string[]} header @param {any[]} rows */
export function saveCsv(name, header, rows) {
  const lines = [header, ...rows.map((row) => header.map((field) => row[field]))];
  const text = `${lines.map(csvLine).join("\r\n")}\r\n`;
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  toElement(h("a", { href: address, download: name })).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A button. @param {string} text @param {() => void} onclick @param {Record<string, any>} [more] */
export function button(text, onclick, more = {}) {
  return h("button", { type: "button", onclick, ...more }, text);
}

/** @param {string} label @param {...any} control */
const labeled = (label, ...control) => h("label", { class: "field" }, h("span", {}, label), control);

/** A field of a form with its label. @param {string} label @param {Record<string, any>} attributes @param {any} [more] */
export const field = (label, attributes, more) =>
  labeled(label, h("input", { autocomplete: "off", spellcheck: "false", ...attributes }), more);

/** A list of suggestions. @param {string} id @param {readonly string[]} values */
export const suggestions = (id, values) =>
  h("datalist", { id }, values.map((value) => h("option", { value })));

/** Filters that can be removed. @param {string[]} names @param {(index: number) => void} remove */
export function chips(names, remove) {
  if (names.length === 0) return false;
  const items = names.map((name, i) =>
    h("li", {}, name, button("×", () => remove(i), { "aria-label": `Remove the filter ${name}` }))
  );
  return h("ul", { class: "chips", "aria-label": "Filters" }, items);
}

/**
 * A list to choose from.
 * @param {string} label
 * @param {{ value: string, options: [value: string, text: string][], onchange: (value: string) => void, id?: string }} options
 */
export function select(label, { value, options, onchange, id = label.toLowerCase().replace(/\W+/g, "-") }) {
  const list = options.map(([each, text]) => h("option", { value: each, selected: each === value }, text));
  return labeled(
    label,
    h("select", { id, onchange: (/** @type {any} */ { target }) => onchange(target.value) }, list),
  );
}
