import { describe } from "../errors.ts";
import { isTimeZone, TIME_ZONE_SYNTAX } from "../records/calendar.ts";
import type { Arguments, Option } from "./arguments.ts";
import { UsageError } from "./usage_error.ts";

/** Option that sets the time zone of an answer. */
export const TIME_ZONE_OPTION: Option = {
  name: "time-zone",
  value: "ZONE",
  summary: "time zone of dates and days (default OPENFINOPS_TIME_ZONE, else UTC)",
};

/** Reads the time zone of dates and days. */
export function readZone(given: Arguments): string {
  const option = given.text(TIME_ZONE_OPTION.name);
  const { text, origin } = option === undefined
    ? given.fallback?.(TIME_ZONE_OPTION.name) ?? { text: "UTC", origin: "" }
    : { text: option, origin: `--${TIME_ZONE_OPTION.name}` };
  if (isTimeZone(text)) return text;
  throw new UsageError(`${origin} must be ${TIME_ZONE_SYNTAX}, not ${describe(text)}.`, "INVALID_OPTION");
}
