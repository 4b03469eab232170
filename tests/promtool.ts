/** Runs `promtool` of Debian's package `prometheus` (or the program in PROMTOOL) where the machine has it. */

/** The program; undefined where the machine has none. */
const PROMTOOL: string | undefined = await findPromtool();

async function findPromtool(): Promise<string | undefined> {
  const program = Deno.env.get("PROMTOOL") ?? "promtool";
  try {
    const { success } = await new Deno.Command(program, { args: ["--version"] }).output();
    if (success) return program;
  } catch {
    // reported below
  }
  console.warn("promtool is not installed; it checks no rules and no metrics here.");
}

/** Runs it on a text or files; throws what it prints if it objects. Does nothing where the machine has none. */
export async function promtool(
  args: readonly string[],
  { stdin = "", cwd }: { stdin?: string; cwd?: string } = {},
): Promise<void> {
  if (PROMTOOL === undefined) return;
  const process = new Deno.Command(PROMTOOL, {
    args: [...args],
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const [{ success, stdout, stderr }] = await Promise.all([
    process.output(),
    new Blob([stdin]).stream().pipeTo(process.stdin),
  ]);
  if (success) return;
  throw new Error([stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("\n"));
}
