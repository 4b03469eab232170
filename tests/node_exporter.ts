/** The path of node_exporter, where Debian's package or a binary is installed. */
export const NODE_EXPORTER: string | undefined = [
  "/usr/bin/prometheus-node-exporter",
  "/usr/bin/node_exporter",
]
  .find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
