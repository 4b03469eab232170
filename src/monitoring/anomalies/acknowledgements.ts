import type { Backend, DocumentStore } from "../../backends/backend.ts";
import { ValidationError } from "../../errors.ts";
import type { CostAnomaly } from "../../records/anomaly.ts";
import { ANOMALY_ACKNOWLEDGEMENT, bodiesOf } from "../document_kinds.ts";
import { isText, takeFields } from "../../records/field_checks.ts";
import { formerIdOf } from "./anomaly_id.ts";
import { type AnomalyQuery, findAnomalies } from "./anomalies.ts";

/** Acknowledgement of an anomaly. */
export interface AnomalyAcknowledgement {
  /** Id of the anomaly: its day and its series. */
  anomalyId: string;
  /** Time of the acknowledgement, in epoch milliseconds. */
  acknowledgedAt: number;
  /** Name of the person. */
  acknowledgedBy?: string;
}

/** The day of an anomaly in epoch milliseconds, and a hash of its series. */
const ID = /^\d{1,15}\/[0-9a-f]{64}$/;

/** Finds anomalies as {@linkcode findAnomalies} does, with their acknowledgements. */
export async function listAnomalies(backend: Backend, query?: AnomalyQuery): Promise<CostAnomaly[]> {
  const found = await findAnomalies(backend, query);
  const notes = await bodiesOf<AnomalyAcknowledgement>(backend.documents, ANOMALY_ACKNOWLEDGEMENT);
  const noteOf = new Map(notes.map((note) => [note.anomalyId, note]));
  return found.map((anomaly) => {
    const { anomalyId } = anomaly;
    return { ...anomaly, ...(noteOf.get(anomalyId) ?? noteOf.get(formerIdOf(anomaly))), anomalyId };
  });
}

/**
 * Stores that a person took note of an anomaly. Does not look for the anomaly, which would read months of costs.
 *
 * @throws {ValidationError} If the id does not have the form of one.
 * @throws {BackendError} If the backend cannot be written.
 */
export async function acknowledgeAnomaly(
  documents: DocumentStore,
  anomalyId: string,
  options: { by?: string } = {},
): Promise<AnomalyAcknowledgement> {
  const { by } = takeFields("an acknowledgement", options, { fields: { by: isText } });
  if (!ID.test(anomalyId)) {
    const expected = "the anomalyId of an anomaly, as the list of anomalies has it";
    throw new ValidationError({
      subject: "an anomaly",
      field: "anomalyId",
      value: anomalyId,
      expected,
      code: "NOT_FOUND",
    });
  }
  const notes = by ? [] : await bodiesOf<AnomalyAcknowledgement>(documents, ANOMALY_ACKNOWLEDGEMENT);
  const known = notes.find((note) => note.anomalyId === anomalyId);
  if (known) return known; // keeps the name that is known
  const note = { anomalyId, acknowledgedAt: Date.now(), ...(by ? { acknowledgedBy: by as string } : {}) };
  await documents.write({ kind: ANOMALY_ACKNOWLEDGEMENT, id: anomalyId, body: note });
  return note;
}
