/**
 * Deliveries that are recorded in a database: list, undo.
 *
 * @module
 */
import type { Backend, StoredDocument } from "../backends/backend.ts";
import { countingChange } from "../backends/change_count.ts";
import {
  DELIVERY,
  NOTHING_PUBLISHED,
  type Publication,
  type PublicationPlan,
  type PublishResult,
} from "../backends/staging.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import { asDelivered, type RecordedDelivery, type RecordedPart } from "./recorded_delivery.ts";
import { TransferError } from "./transfer_error.ts";

/** A delivery with its id. */
export interface ListedDelivery extends RecordedDelivery {
  readonly id: string;
}

/** Reads the deliveries, the oldest first; replaced and undone ones, too. */
export async function readDeliveries(backend: Pick<Backend, "documents">): Promise<ListedDelivery[]> {
  const found = await backend.documents.read(DELIVERY);
  return found.map(({ id, body }) => ({ id, ...body as RecordedDelivery })).sort((a, b) => a.at - b.at);
}

/** Parts of a delivery whose rows are there. */
export function livePartsOf({ parts }: RecordedDelivery): RecordedPart[] {
  return parts.filter(({ ended }) => ended === undefined);
}

/** Error for a delivery of which nothing is left, or that does not exist. */
export function nothingLeftOf(id: string): TransferError {
  return new TransferError(
    `No delivery ${id} has costs that could be deleted. "openfinops database deliveries" lists them.`,
    { code: "NOT_FOUND" },
  );
}

/** Files of the deliveries that a delivery has replaced. Undoing it does not bring them back. */
export function replacedFiles(deliveries: readonly ListedDelivery[], id: string): string[] {
  const replaced = deliveries.filter(({ parts }) => parts.some(({ ended }) => ended?.by === id));
  return [...new Set(replaced.flatMap(({ files }) => files))];
}

/**
 * Deletes what a delivery brought.
 *
 * @throws {TransferError} If there is no such delivery, or nothing of it is left.
 * @throws {BackendError} If nothing was deleted, or if that is unknown.
 */
export async function undoDelivery(
  backend: Pick<Backend, "stage">,
  id: string,
  { user }: { user?: string } = {},
): Promise<number> {
  let plan: PublicationPlan | undefined;
  const { replaced } = await publishOnly(backend, {
    related(documents) {
      plan = planOfUndo(documents, id, user);
      return [];
    },
    decide: () => plan,
  });
  if (plan) return replaced;
  throw nothingLeftOf(id);
}

function planOfUndo(
  documents: readonly StoredDocument[],
  id: string,
  user: string | undefined,
): PublicationPlan | undefined {
  const delivery = documents.find((document) => document.id === id)?.body as RecordedDelivery | undefined;
  const live = delivery ? livePartsOf(delivery) : [];
  if (!delivery || live.length === 0) return undefined;
  const ended = { at: Date.now(), by: "undone", ...(user === undefined ? {} : { user }) };
  const parts = delivery.parts.map((part) => part.ended ? part : { ...part, ended });
  return {
    remove: live.map((part) => asDelivered(id, part)),
    insert: new Map(),
    documents: () => [{ kind: DELIVERY, id, body: { ...delivery, parts } }],
  };
}

/** Runs a transaction of deliveries without rows of its own. */
export async function publishOnly(
  backend: Pick<Backend, "stage">,
  publication: Publication,
): Promise<PublishResult> {
  const staging = await backend.stage?.();
  if (!staging) return NOTHING_PUBLISHED;
  try {
    return await countingChange(backend, retryBriefly(() => staging.publish(publication)));
  } finally {
    await staging.discard();
  }
}
