// @ts-check
/** Elements as plain data: the page turns them into DOM nodes, a report into text. Text is never markup. */

/** @typedef {Record<string, string | number | boolean | undefined | null | ((event: any) => void)>} Attributes */
/** @typedef {[tag: string, attributes?: Attributes, ...children: any[]]} Tree */

/**
 * Makes an element.
 * @param {string} tag
 * @param {Attributes} [attributes] `on…` are listeners; false and undefined leave an attribute out.
 * @param {...any} children Trees, texts, numbers, DOM elements; null and false are left out.
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  return [tag, attributes, ...children];
}

/** True if a value is an element as data. @param {unknown} value @returns {value is Tree} */
export function isTree(value) {
  return Array.isArray(value) && typeof value[0] === "string" && value.length > 1 &&
    typeof value[1] === "object" && value[1] !== null && !Array.isArray(value[1]);
}

/** @param {unknown} value @returns {value is null | undefined | false} */
const isAbsent = (value) => value === null || value === undefined || value === false;

const SVG = "http://www.w3.org/2000/svg";

/** Makes the element of a tree. @param {any} tree */
export const toElement = (tree) => /** @type {HTMLElement} */ (toDom(tree));

/** Draws at once and when the size of an element changes. @param {Element} element @param {() => void} draw @param {AbortSignal} signal */
export function onResize(element, draw, signal) {
  const observer = new ResizeObserver(draw);
  observer.observe(element);
  signal.addEventListener("abort", () => observer.disconnect());
}

/**
 * Makes DOM nodes of a tree.
 * @param {any} tree
 * @param {boolean} [isSvg] True within an SVG.
 * @returns {Node}
 */
export function toDom(tree, isSvg = false) {
  if (tree instanceof Node) return tree;
  if (!isTree(tree)) {
    const all = document.createDocumentFragment();
    for (const child of Array.isArray(tree) ? tree : []) append(all, child, isSvg);
    if (!Array.isArray(tree)) append(all, tree, isSvg);
    return all;
  }
  const [tag, attributes = {}, ...children] = tree;
  const within = isSvg || tag === "svg";
  const element = within ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (isAbsent(value)) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) append(element, child, within && tag !== "foreignObject");
  return element;
}

/** @param {Node} parent @param {any} child @param {boolean} isSvg */
function append(parent, child, isSvg) {
  if (isAbsent(child)) return;
  if (typeof child === "object") parent.appendChild(toDom(child, isSvg));
  else parent.appendChild(document.createTextNode(String(child)));
}

const VOID = new Set(["meta", "link", "br", "img", "input", "hr"]);

/** Writes a tree as HTML. Listeners are left out. @param {any} tree @returns {string} */
export function toHtml(tree) {
  if (isAbsent(tree)) return "";
  if (!Array.isArray(tree)) return escapeHtml(String(tree));
  if (!isTree(tree)) return tree.map(toHtml).join("");
  const [tag, attributes = {}, ...children] = tree;
  const written = Object.entries(attributes)
    .filter(([, value]) => typeof value !== "function" && !isAbsent(value))
    .map(([name, value]) => ` ${name}="${escapeHtml(value === true ? "" : String(value))}"`).join("");
  if (VOID.has(tag)) return `<${tag}${written}>`;
  return `<${tag}${written}>${children.map(toHtml).join("")}</${tag}>`;
}

/** @param {string} text */
function escapeHtml(text) {
  const safe = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return safe.replaceAll('"', "&quot;");
}
