/** `@db/sqlite`, loaded on demand; where JSR cannot be reached, this module cannot be loaded. */
const sqlite: unknown = await import("@db/sqlite");

export default sqlite;
