import { RequestError } from "./problems.ts";
import type { RouteRequest } from "./route.ts";

/**
 * Reads a JSON object. An empty body reads as an empty object.
 *
 * @throws {RequestError} If the body is not a JSON object.
 */
export async function readJson({ body }: RouteRequest): Promise<object> {
  const text = new TextDecoder().decode(await body());
  const parsed = text.trim() === "" ? {} : parseJson(text);
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed;
  throw new RequestError("The body must be a JSON object.", { code: "INVALID_BODY" });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
