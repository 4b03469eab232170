/** `@std/cli`, loaded on demand; where JSR cannot be reached, this module cannot be loaded. */
const std: unknown = await import("@std/cli/parse-args");

export default std;
