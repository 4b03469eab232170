/**
 * A report as one file: HTML that is readable without scripts, or Markdown.
 *
 * @module
 */
import style from "../../web/style.css" with { type: "text" };
import { short } from "../../web/format.js";
import { isTree, toHtml } from "../../web/tree.js";

/** An element of `web/tree.js`, a text, or a list of them. */
export type Tree = unknown;

export interface Report {
  readonly title: string;
  /** Time range, zone and origin, in one line. */
  readonly subtitle: string;
  readonly parts: readonly { readonly title: string; readonly content: Tree }[];
}

/** Writes a report as HTML. It has no scripts and loads nothing. */
export function writeHtml({ title, subtitle, parts }: Report): string {
  const sections = parts.map(({ title, content }) => [
    "section",
    { class: "panel" },
    ["h2", {}, title],
    ["div", { class: "body" }, content],
  ]);
  const body = ["main", {}, ["div", {}, ["h1", { class: "figure" }, title], [
    "p",
    { class: "quiet" },
    subtitle,
  ]], ...sections];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="content-security-policy" content="default-src 'none'; style-src 'unsafe-inline'">
${toHtml(["title", {}, title])}
<style>
${style}main { padding-top: 24px; }
.panel h2 { margin-bottom: 8px; }
</style>
</head>
<body>
${toHtml(body)}
</body>
</html>
`;
}

/** Lines of text in place of charts. */
const lines = new WeakMap<object, string>();
/** From zero to the highest value of a chart. */
const BARS = [..."▁▂▃▄▅▆▇█"];
/** Most bars of a line: longer series are means of a few values each. */
const MAX_BARS = 60;

/** Returns a chart that Markdown shows as a line of bars for each series; values below zero are as low as zero. */
export function withBars(
  chart: Tree,
  { labels, series }: {
    labels: readonly string[];
    series: readonly { name: string; values: readonly (number | null | undefined)[] }[];
  },
): Tree {
  if (labels.length === 0) return chart;
  const size = Math.ceil(labels.length / MAX_BARS);
  const rows = series.map(({ name, values }) => ({
    name,
    means: Array.from({ length: Math.ceil(values.length / size) }, (_, i) => {
      const known = values.slice(i * size, (i + 1) * size).filter((value) => typeof value === "number");
      return known.length === 0 ? undefined : known.reduce((sum, value) => sum + value, 0) / known.length;
    }),
  }));
  const high = Math.max(0, ...rows.flatMap(({ means }) => means.filter((mean) => mean !== undefined)));
  const barOf = (mean: number | undefined) =>
    mean === undefined ? " " : BARS[Math.round(Math.max(0, mean / (high || 1)) * (BARS.length - 1))];
  const texts = rows.map(({ name, means }) => `\`${means.map(barOf).join("")}\` ${escapeMarkdown(name)}`);
  const range = escapeMarkdown(`${labels[0]} to ${labels.at(-1)}, the highest bar is ${short(high)}`);
  lines.set(chart as object, [...texts, range].join("  \n"));
  return chart;
}

/** Writes a report as Markdown. Charts are lines of bars. */
export function writeMarkdown({ title, subtitle, parts }: Report): string {
  const blocks = [`# ${escapeMarkdown(title)}`, escapeMarkdown(subtitle)];
  for (const { title, content } of parts) blocks.push(`## ${escapeMarkdown(title)}`, ...blocksOf(content));
  return `${blocks.join("\n\n")}\n`;
}

type Element = [tag: string, attributes: Record<string, unknown>, ...children: Tree[]];

function blocksOf(tree: Tree): string[] {
  if (!Array.isArray(tree)) return textOf(tree) === "" ? [] : [textOf(tree)];
  if (!isTree(tree)) return tree.flatMap(blocksOf);
  const [tag, { class: kind }, ...children] = tree as Element;
  if (tag === "svg") return lines.has(tree) ? [lines.get(tree)!] : [];
  if (tag === "table") return [tableOf(tree as Element)];
  if (/^h[1-6]$/.test(tag)) return [`### ${textOf(children)}`];
  if (kind === "cards") return [find(tree, (each) => each[1].class === "card").map(cardOf).join("\n")];
  if (tag === "p" || tag === "span" || tag === "data" || tag === "code" || tag === "a") return [textOf(tree)];
  return children.flatMap(blocksOf);
}

function cardOf([, , title, figure, more]: Element): string {
  const rest = more ? ` (${textOf(more)})` : "";
  return `- ${textOf(title)}: **${textOf(figure)}**${rest}`;
}

function tableOf(table: Element): string {
  const rows = find(table, ([tag]) => tag === "tr").map((row) =>
    find(row, ([tag]) => tag === "th" || tag === "td").map((cell) => textOf(cell))
  );
  const kept = rows[0].map((title, i) => title !== "" || rows.slice(1).some((row) => row[i]));
  const lines = rows.map((row) => `| ${row.filter((_, i) => kept[i] ?? true).join(" | ")} |`);
  const numbers = find(table, ([tag]) => tag === "th").slice(0, rows[0].length)
    .map(([, { class: kind }]) => String(kind ?? "").includes("num") ? "--:" : "---");
  lines.splice(1, 0, `| ${numbers.filter((_, i) => kept[i]).join(" | ")} |`);
  return lines.join("\n");
}

/** The elements that a test finds, from the outside in. */
function find(tree: Tree, test: (element: Element) => boolean): Element[] {
  if (!Array.isArray(tree)) return [];
  const children = isTree(tree) ? tree.slice(2) : tree;
  return children.flatMap((child) =>
    isTree(child) && test(child as Element) ? [child as Element] : find(child, test)
  );
}

function textOf(tree: Tree): string {
  if (tree === null || tree === undefined || tree === false) return "";
  if (!Array.isArray(tree)) return escapeMarkdown(String(tree));
  if (!isTree(tree)) return tree.map(textOf).join("");
  const [tag, { class: kind }, ...children] = tree as Element;
  if (tag === "svg" || kind === "hidden") return "";
  if (tag === "code") return `\`${String(children[0]).replaceAll("`", "'")}\``;
  return children.map(textOf).join("").trim();
}

function escapeMarkdown(text: string): string {
  return text.replace(/[\\`*_[\]<>|#]/g, "\\$&").replace(/\s+/g, " ");
}
