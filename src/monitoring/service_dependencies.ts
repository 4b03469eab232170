import type { Backend } from "../backends/backend.ts";
import { type ServiceMetrics, serviceMetrics } from "../records/service_metrics.ts";
import { bodiesOf, SERVICE } from "./document_kinds.ts";
import { type Check, isText, isTexts, takeFields } from "../records/field_checks.ts";
import { type HealthInput, newestByGroup } from "./health.ts";

/** A service to watch. */
export interface Service {
  /** The name, as metrics have it. */
  serviceName: string;
  /** The cluster that it runs on. */
  clusterId?: string;
  /**
   * The services that it depends on.
   *
   * @default {[]}
   */
  dependencies?: string[];
}

/** A service and those that it depends on. */
export interface ServiceNode {
  /** The service. */
  serviceName: string;
  /** The cluster that it runs on, where it is registered with one. */
  clusterId?: string;
  /** The state in its own words, else what a service that depends on it says, else `unknown`. */
  status: string;
  /** The services among those that it depends on, directly or not, that are down. */
  downDependencies: string[];
}

/** The services and how they depend on each other. */
export interface ServiceDependencyMap {
  /** Time of the summary, in epoch milliseconds. */
  at: number;
  /** Each service that is registered, has reported, or is depended on; by name. */
  nodes: ServiceNode[];
  /** `source` is what `target` depends on. */
  edges: { source: string; target: string }[];
}

const SERVICE_FIELDS: Record<keyof Service, Check> = {
  serviceName: isText,
  clusterId: isText,
  dependencies: isTexts,
};

/**
 * Checks a service.
 *
 * @throws {ValidationError} If a field is missing, unknown or wrong.
 */
export function acceptService(input: Service): Service {
  const checks = { fields: SERVICE_FIELDS, required: ["serviceName"] };
  return takeFields("a service", input, checks) as unknown as Service;
}

export async function serviceDependencyMap(
  backend: Backend,
  { window, recent }: HealthInput<ServiceMetrics>,
): Promise<ServiceDependencyMap> {
  const newest = await newestByGroup(backend, serviceMetrics, { ...window, recent });
  const metrics = [...newest.values()].flatMap((found) => [...found.values()]);
  return { at: window.at, ...dependencyMap(metrics, await bodiesOf<Service>(backend.documents, SERVICE)) };
}

/** Returns the services and how they depend on each other, by the newest metrics of each. */
export function dependencyMap(
  newest: readonly ServiceMetrics[],
  services: readonly Service[],
): Omit<ServiceDependencyMap, "at"> {
  const registered = new Map(services.map((service) => [service.serviceName, service]));
  const dependencies = new Map<string, Set<string>>();
  const dependents = new Map<string, string[]>();
  const depend = (target: string, sources: readonly string[]) => {
    const known = dependencies.get(target) ?? new Set();
    dependencies.set(target, known);
    for (const source of sources) {
      if (known.has(source)) continue;
      known.add(source);
      if (!dependencies.has(source)) dependencies.set(source, new Set());
      appendTo(dependents, source, target);
    }
  };
  for (const { serviceName, dependencies = [] } of services) depend(serviceName, dependencies);
  for (const { serviceName, dependencyHealth = {} } of newest) {
    depend(serviceName, Object.keys(dependencyHealth));
  }
  const names = [...dependencies.keys()].toSorted();
  const statuses = statusesOf(newest);
  const down = new Map<string, string[]>();
  for (const name of names) {
    if (statuses.get(name) !== "down") continue;
    for (const dependent of reachable(name, dependents)) appendTo(down, dependent, name);
  }
  return {
    nodes: names.map((serviceName) => {
      const { clusterId } = registered.get(serviceName) ?? {};
      return {
        serviceName,
        ...(clusterId === undefined ? {} : { clusterId }),
        status: statuses.get(serviceName) ?? "unknown",
        downDependencies: down.get(serviceName) ?? [],
      };
    }),
    edges: names.flatMap((target) =>
      [...dependencies.get(target)!].toSorted().map((source) => ({ source, target }))
    ),
  };
}

/** Returns the state of each service: what it reports itself, else what the first service that depends on it reports. */
function statusesOf(newest: readonly ServiceMetrics[]): Map<string, string> {
  const statuses = new Map<string, string>();
  for (const { serviceName, status } of newest) if (status !== undefined) statuses.set(serviceName, status);
  for (const { dependencyHealth = {} } of newest) {
    for (const [name, status] of Object.entries(dependencyHealth)) {
      if (!statuses.has(name)) statuses.set(name, status);
    }
  }
  return statuses;
}

function appendTo(lists: Map<string, string[]>, key: string, value: string): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** Returns all names that can be reached from a name, without itself. Circles are allowed. */
function reachable(from: string, next: ReadonlyMap<string, readonly string[]>): Set<string> {
  const seen = new Set([from]);
  for (const name of seen) for (const other of next.get(name) ?? []) seen.add(other);
  seen.delete(from);
  return seen;
}
