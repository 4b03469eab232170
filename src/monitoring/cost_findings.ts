import type { Backend } from "../backends/backend.ts";
import type { EventListener, EventOf } from "../pipeline/events.ts";
import { ANOMALY, CROSSING } from "./document_kinds.ts";

/** A threshold of a budget that was crossed, or an anomaly. */
export interface CostFinding {
  /** Id of its document, the same for the same finding in every process. */
  readonly id: string;
  readonly event: EventOf<"budget-threshold"> | EventOf<"cost-anomaly">;
}

/**
 * Records a finding as a document, and emits its event where it is the first of all processes to do so.
 *
 * @returns True if it was the first.
 */
export async function recordFinding(
  { documents }: Pick<Backend, "documents">,
  { id, event }: CostFinding,
  emit?: EventListener,
): Promise<boolean> {
  const document = event.type === "cost-anomaly"
    ? { kind: ANOMALY, id, body: event.anomaly }
    : { kind: CROSSING, id, body: event.crossing };
  if (!await documents.write(document, { ifAbsent: true })) return false;
  emit?.(event);
  return true;
}
