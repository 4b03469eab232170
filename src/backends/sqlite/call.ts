/**
 * Calls of the methods of a connection, which go to another thread.
 *
 * @module
 */
import { asBackendError } from "./file.ts";

/** Arguments of a method. */
export type ArgsOf<T, M extends keyof T> = T[M] extends (...args: infer Args) => unknown ? Args : never;
/** Result of a method. */
export type ResultOf<T, M extends keyof T> = T[M] extends (...args: never) => infer Result ? Result : never;

/** A call of a method of a `T`. */
export interface Call<T, M extends keyof T = keyof T> {
  /** Name of the operation in errors, such as "read". */
  readonly operation: string;
  readonly method: M;
  readonly args: ArgsOf<T, M>;
}

/** Runs a call. Its errors become a {@linkcode BackendError}. */
export function runCall<T, M extends keyof T>(
  connection: T,
  path: string,
  { operation, method, args }: Call<T, M>,
): ResultOf<T, M> {
  try {
    return (connection[method] as (...args: ArgsOf<T, M>) => ResultOf<T, M>)(...args);
  } catch (error) {
    throw asBackendError(operation, path, error);
  }
}
