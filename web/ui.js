// @ts-check
/**
 * Parts that the pages share: panels, cards, tables, charts with a pointer, empty and error states.
 *
 * @module
 */
import { ApiError } from "./api.js";
import { plotOf } from "./charts.js";
import { change, count, csvLine, money, short } from "./format.js";
import { h, toDom } from "./tree.js";

/** @typedef {import("./main.js").Context} Context */

/**
 * An amount, rounded as the command rounds it; the exact one is shown on hover and read by copying.
 * @param {string} amount
 * @param {string} currency
 */
export function amount(amount, currency) {
  return h("data", { class: "num", value: amount, title: `${amount} ${currency}` }, money(amount, currency));
}

/** A change in percent with its direction. @param {number | undefined} value */
export function changeOf(value) {
  const kind = value === undefined || Math.abs(value) < 0.05 ? "" : value > 0 ? " up" : " down";
  return h(
    "span",
    { class: `change${kind}` },
    kind === " up" ? "▲ " : kind === " down" ? "▼ " : "",
    change(value),
  );
}

/** A card with one number. @param {string} label @param {any} value @param {any} [more] */
export function card(label, value, more) {
  return h(
    "div",
    { class: "card" },
    h("h3", {}, label),
    h("p", { class: "figure" }, value),
    more && h("p", { class: "quiet" }, more),
  );
}

/** Sign of a state, with its word: color alone says nothing. @param {string} status */
export function badge(status) {
  const kinds = /** @type {Record<string, string>} */ ({
    healthy: "good",
    running: "good",
    under_budget: "good",
    resolved: "good",
    ok: "good",
    warning: "warn",
    approaching_limit: "warn",
    medium: "warn",
    high: "bad",
    budget_exhausted: "warn",
    degraded: "warn",
    critical: "bad",
    down: "bad",
    over_budget: "bad",
    emergency: "bad",
  });
  return h("span", { class: `badge ${kinds[status] ?? "plain"}` }, status.replaceAll("_", " "));
}

/** @typedef {{ title: string, cell: (row: any) => any, kind: string }} Column */

/**
 * A column of text. Narrow windows hide one of the kind `wide`.
 * @param {string} title @param {(row: any) => any} cell @param {string} [kind] @returns {Column}
 */
export const text = (title, cell, kind = "") => ({ title, cell, kind });

/** A column of numbers. @param {string} title @param {(row: any) => any} cell @param {string} [kind] @returns {Column} */
export const num = (title, cell, kind = "") => ({ title, cell, kind: `num ${kind}`.trim() });

/**
 * A table that scrolls sideways where it does not fit.
 * @param {string} caption @param {any[]} rows @param {Column[]} columns
 */
export function table(caption, rows, columns) {
  const heads = columns.map(({ title, kind }) => h("th", { scope: "col", class: kind }, title));
  const cellsOf = (/** @type {any} */ row) =>
    columns.map(({ cell, kind }) => h("td", { class: kind }, cell(row)));
  const lines = rows.map((row) => h("tr", {}, cellsOf(row)));
  const head = h("thead", {}, h("tr", {}, heads));
  return scroll(
    caption,
    h("table", {}, h("caption", { class: "hidden" }, caption), head, h("tbody", {}, lines)),
  );
}

/** A part that scrolls sideways, also by the keyboard. @param {string} label @param {any} content */
export const scroll = (label, content) =>
  h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, content);

/** @param {...any} children */
export const quiet = (...children) => h("p", { class: "quiet" }, children);

/** @param {string} command */
export const code = (command) => h("code", {}, command);

/** @param {string | undefined} href @param {any} content */
export const link = (href, content) => href === undefined ? content : h("a", { href }, content);

/** @param {...any} children */
export const cards = (...children) => h("div", { class: "cards" }, children);

/** A value, or a dash where there is none. @template T @param {T | null | undefined} value @param {(value: T) => any} show */
export const or = (value, show) => value === undefined || value === null ? "–" : show(value);

/** An amount with its currency. @param {string} value @param {string} currency */
export const priced = (value, currency) => [amount(value, currency), ` ${currency} `];

/** A large number, all digits on hover. @param {number} value */
export const big = (value) => h("span", { title: count(value) }, short(value));

/**
 * A state without data: what is absent, and the next command.
 * @param {string} text
 * @param {string} [command]
 */
export function empty(text, command) {
  return h("div", { class: "empty" }, h("p", {}, text), command && h("p", {}, h("code", {}, command)));
}

/** @param {unknown} error */
function failure(error) {
  const isApi = error instanceof ApiError;
  const hint = isApi && error.status === 0 ? "openfinops dashboard" : undefined;
  return h(
    "div",
    { class: "failure", role: "alert" },
    h(
      "p",
      {},
      isApi
        ? error.message
        : `This part could not be shown: ${error instanceof Error ? error.message : error}`,
    ),
    isApi && h("p", { class: "quiet" }, `Code ${error.code}. The guide “Troubleshooting” lists what to do.`),
    hint && h("p", {}, "Start it again: ", h("code", {}, hint)),
  );
}

/**
 * A part of a page that loads by itself.
 * @param {Context} context
 * @param {{ title?: string, kind?: string, tools?: any }} options
 * @param {() => Promise<any>} load Returns the tree of its content.
 * @returns {HTMLElement}
 */
export function panel(context, { title, kind = "", tools }, load) {
  const body = /** @type {HTMLElement} */ (toDom(
    h("div", { class: "body" }, h("div", { class: "skeleton", "aria-hidden": "true" })),
  ));
  const section = /** @type {HTMLElement} */ (toDom(
    h(
      "section",
      { class: `panel ${kind}`, "aria-busy": "true" },
      title && h("div", { class: "head" }, h("h2", {}, title), tools),
      body,
    ),
  ));
  const refresh = async () => {
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
  const box = /** @type {HTMLElement} */ (toDom(h("div", { class: "chart-box", tabindex: 0 })));
  const tip = /** @type {HTMLElement} */ (document.getElementById("tip"));
  let width = 0;
  let at = -1;
  const redraw = () => {
    const now = Math.max(260, Math.floor(box.clientWidth));
    if (now === width) return;
    width = now;
    box.replaceChildren(toDom(draw(width)));
  };
  const show = (/** @type {number} */ index) => {
    at = Math.max(0, Math.min(places - 1, index));
    const { left, step } = plotOf({ width, count: places });
    const hover = box.querySelector(".hover");
    hover?.setAttribute("x", String(left + at * step));
    hover?.setAttribute("visibility", "visible");
    tip.replaceChildren(toDom(tell(at)));
    tip.hidden = false;
    const area = box.getBoundingClientRect();
    const middle = area.left + left + (at + 0.5) * step;
    const wide = tip.offsetWidth;
    tip.style.left = `${
      Math.max(
        8,
        Math.min(innerWidth - wide - 8, middle > innerWidth / 2 ? middle - wide - 14 : middle + 14),
      ) + scrollX
    }px`;
    tip.style.top = `${area.top + 12 + scrollY}px`;
  };
  const hide = () => {
    tip.hidden = true;
    box.querySelector(".hover")?.setAttribute("visibility", "hidden");
  };
  box.addEventListener("pointermove", (event) => {
    const { left, step } = plotOf({ width, count: places });
    show(Math.floor((event.clientX - box.getBoundingClientRect().left - left) / step));
  });
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("click", () => at >= 0 && choose?.(at));
  box.addEventListener("keydown", (event) => {
    const step =
      /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1, Home: -places, End: places })[
        event.key
      ];
    if (step !== undefined) {
      event.preventDefault();
      show(at < 0 && step > 0 ? 0 : at + step);
    } else if (event.key === "Enter" && at >= 0) choose?.(at);
    else if (event.key === "Escape") hide();
  });
  const observer = new ResizeObserver(redraw);
  observer.observe(box);
  signal.addEventListener("abort", () => {
    observer.disconnect();
    hide();
  });
  return box;
}

/**
 * A tip: a title and rows of colored names with values.
 * @param {string} title
 * @param {{ name: string, color?: number, value: any }[]} rows
 */
export function tipOf(title, rows) {
  return [
    h("strong", {}, title),
    h(
      "dl",
      {},
      rows.map(({ name, color, value }) => [
        h("dt", {}, color === undefined ? "" : swatch(color), name),
        h("dd", {}, value),
      ]),
    ),
  ];
}

/** @param {number} color */
export function swatch(color) {
  return h(
    "svg",
    { class: "swatch", viewBox: "0 0 10 10", width: 10, height: 10, "aria-hidden": "true" },
    h("rect", { class: `s${color}`, width: 10, height: 10, rx: 2 }),
  );
}

/** Saves rows as a CSV file. @param {string} name @param {string[]} header @param {any[]} rows */
export function saveCsv(name, header, rows) {
  const lines = [header, ...rows.map((row) => header.map((field) => row[field]))];
  const text = `${lines.map(csvLine).join("\r\n")}\r\n`;
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = /** @type {HTMLAnchorElement} */ (toDom(h("a", { href: address, download: name })));
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A button. @param {string} text @param {() => void} onclick @param {Record<string, any>} [more] */
export function button(text, onclick, more = {}) {
  return h("button", { type: "button", onclick, ...more }, text);
}

/** A field of a form with its label. @param {string} label @param {Record<string, any>} attributes @param {any} [more] */
export const field = (label, attributes, more) =>
  h(
    "label",
    { class: "field" },
    h("span", {}, label),
    h("input", { autocomplete: "off", spellcheck: "false", ...attributes }),
    more,
  );

/** A list of suggestions. @param {string} id @param {readonly string[]} values */
export const suggestions = (id, values) =>
  h("datalist", { id }, values.map((value) => h("option", { value })));

/** Filters that can be removed. @param {string[]} names @param {(index: number) => void} remove */
export const chips = (names, remove) =>
  names.length > 0 &&
  h(
    "ul",
    { class: "chips", "aria-label": "Filters" },
    names.map((name, i) =>
      h(
        "li",
        {},
        name,
        button("×", () => remove(i), { "aria-label": `Remove the filter ${name}` }),
      )
    ),
  );

/**
 * A list to choose from.
 * @param {string} label
 * @param {{ value: string, options: [value: string, text: string][], onchange: (value: string) => void, id?: string }} options
 */
export function select(label, { value, options, onchange, id = label.toLowerCase().replace(/\W+/g, "-") }) {
  return h(
    "label",
    { class: "field" },
    h("span", {}, label),
    h(
      "select",
      { id, onchange: (/** @type {any} */ event) => onchange(event.target.value) },
      options.map(([each, text]) => h("option", { value: each, selected: each === value }, text)),
    ),
  );
}
