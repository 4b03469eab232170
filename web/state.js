// @ts-check
/** State of the page: all of it is in the address, after `#`. */

/**
 * @typedef {object} State
 * @property {string} page
 * @property {string} range Name of a preset, a period such as 2026-10, or FROM..UNTIL.
 * @property {string} zone
 * @property {string} by Field or tag to group by.
 * @property {string[]} where Conditions.
 * @property {string} money Currency and basis, such as `USD estimated`.
 * @property {string} theme
 * @property {boolean} live
 * @property {Record<string, string>} more Parameters of one page.
 */

const KNOWN = ["range", "zone", "by", "where", "money", "theme", "live"];
export const DEFAULTS = { range: "30d", zone: "UTC", by: "category" };

/** @type {Readonly<Record<string, string>>} Words that people see, by the name of the preset. */
export const PRESETS = {
  "1d": "Last 24 hours",
  "7d": "Last 7 days",
  "30d": "Last 30 days",
  "90d": "Last 90 days",
  "365d": "Last 12 months",
  today: "Today",
  "this-month": "This month",
  "last-month": "Last month",
  "this-quarter": "This quarter",
  "last-quarter": "Last quarter",
  "this-year": "This year",
  "last-year": "Last year",
};

/** Reads the state of an address. @param {string} hash @returns {State} */
export function readState(hash) {
  const [page, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const given = new URLSearchParams(query);
  const zone = given.get("zone") ?? DEFAULTS.zone;
  return {
    page: page || "costs",
    range: given.get("range") ?? DEFAULTS.range,
    zone: isZone(zone) ? zone : DEFAULTS.zone,
    by: given.get("by") ?? DEFAULTS.by,
    where: given.getAll("where"),
    money: given.get("money") ?? "",
    theme: given.get("theme") ?? "",
    live: given.get("live") === "1",
    more: Object.fromEntries([...given].filter(([name]) => !KNOWN.includes(name))),
  };
}

/** Writes the address of a state. @param {State} state */
export function writeState({ page, range, zone, by, where, money, theme, live, more }) {
  const query = new URLSearchParams();
  const set = (/** @type {string} */ name, /** @type {string} */ value, usual = "") => {
    if (value !== usual && value !== "") query.set(name, value);
  };
  set("range", range, DEFAULTS.range);
  set("zone", zone, DEFAULTS.zone);
  set("by", by, DEFAULTS.by);
  for (const each of where) query.append("where", each);
  set("money", money);
  set("theme", theme);
  set("live", live ? "1" : "");
  for (const [name, value] of Object.entries(more)) set(name, value);
  return `#/${page}${query.size > 0 ? `?${query}` : ""}`;
}

/** @param {string} zone */
export function isZone(zone) {
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}

/**
 * The date of a time in a zone, moved by days.
 * @param {number} time
 * @param {{ zone: string, days?: number }} options
 */
function dateAt(time, { zone, days = 0 }) {
  const today = new Intl.DateTimeFormat("en-CA", { timeZone: zone }).format(time);
  return new Date(Date.parse(`${today}T00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

/**
 * Parameters of the API that select a range. Days begin at midnight, so that each bar of a chart is a whole day.
 * @param {Pick<State, "range" | "zone">} state
 * @returns {{ since?: string, until?: string, during?: string, "time-zone": string }}
 */
export function rangeParams({ range, zone }, now = Date.now()) {
  const days = /^(\d+)d$/.exec(range)?.[1];
  const [from, until] = range.split("..");
  if (until !== undefined) return { since: from, ...(until ? { until } : {}), "time-zone": zone };
  if (range === "1d") {
    return {
      since: new Date(Math.floor(now / 3_600_000) * 3_600_000 - 23 * 3_600_000).toISOString(),
      "time-zone": zone,
    };
  }
  if (days) return { since: dateAt(now, { zone, days: 1 - Number(days) }), "time-zone": zone };
  return { during: range, "time-zone": zone };
}

/** Calendar months for the list of ranges, the newest first. @param {string} zone */
export function months(zone, now = Date.now(), count = 12) {
  const [year, month] = dateAt(now, { zone }).split("-").map(Number);
  return Array.from({ length: count }, (_, i) => {
    const first = new Date(Date.UTC(year, month - 1 - i, 1));
    return first.toISOString().slice(0, 7);
  });
}

/** Length of the bars of a chart over a range. @param {{ startTime: number, endTime: number }} range */
export function bucketOf({ startTime, endTime }) {
  const days = (endTime - startTime) / 86_400_000;
  return days <= 2 ? "1h" : days <= 100 ? "1d" : days <= 400 ? "1w" : "1mo";
}

/** Approximate bounds of a range before the server has told the exact ones. @param {string} range */
export function bucketOfRange(range, now = Date.now()) {
  const days = /^(\d+)d$/.exec(range)?.[1];
  if (days) return bucketOf({ startTime: now - Number(days) * 86_400_000, endTime: now });
  if (range === "today" || range === "yesterday" || /^\d{4}-\d\d-\d\d$/.test(range)) return "1h";
  if (/year$/.test(range) || /^\d{4}$/.test(range)) return "1w";
  const [from, until] = range.split("..");
  if (until === undefined) return "1d";
  return bucketOf({ startTime: Date.parse(from), endTime: until ? Date.parse(until) : now });
}
