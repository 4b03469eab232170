import type { Backend } from "./backend.ts";

const originals = new WeakMap<object, object>();

/** Returns a backend with some methods of its own; all else is that of the given one, which stays as it is. */
export function override(backend: Backend, own: Partial<Backend>): Backend {
  const proxy = new Proxy(backend, {
    get(target, name) {
      if (Object.hasOwn(own, name)) return own[name as keyof Backend];
      const value = Reflect.get(target, name, target); // not the proxy, which has no private fields
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  originals.set(proxy, originalOf(backend));
  return proxy;
}

/** Returns the backend whose methods were overridden, or the given one. */
export function originalOf(backend: object): object {
  return originals.get(backend) ?? backend;
}
