/** Programs of Prometheus that some tests run, where Debian's package or a binary is installed. */

function findProgram(...names: string[]): string | undefined {
  return names.flatMap((name) => ["/usr/bin", "/usr/local/bin"].map((folder) => `${folder}/${name}`))
    .find((path) => {
      try {
        return Deno.statSync(path).isFile;
      } catch {
        return false;
      }
    });
}

/** The path of node_exporter. */
export const NODE_EXPORTER: string | undefined = findProgram("prometheus-node-exporter", "node_exporter");
/** The path of Prometheus. */
export const PROMETHEUS: string | undefined = findProgram("prometheus");
