/** Something that is kept beside the records: a budget, an alert. */
export interface StoredDocument {
  /** Kind, such as `budget`. */
  readonly kind: string;
  /** The id, unique within its kind. */
  readonly id: string;
  /** Body: any JSON value. */
  readonly body: unknown;
}
