import { assert, assertEquals } from "./assert.ts";
import { MUTATIONS } from "./mutations.ts";

const ALL = Object.values(MUTATIONS).flat();
const read = (path: string) => Deno.readTextFileSync(new URL(`../${path}`, import.meta.url));

Deno.test("Mutations change text that occurs once in its file", () => {
  const wrong = ALL.filter(({ file, before, after }) =>
    before === after || read(file).split(before).length !== 2
  );
  assertEquals(wrong.map(({ name, file }) => `${name} (${file})`), []);
});

Deno.test("Mutations name tests that exist, and have a name of their own", () => {
  const names = [...Object.keys(MUTATIONS), ...ALL.map(({ name }) => name)];
  assertEquals(names.filter((name, i) => names.indexOf(name) !== i), []);
  for (const { name, tests } of ALL) {
    assert(tests.length > 0, name);
    for (const entry of tests) assert(read(`tests/${entry.split(": ")[0]}`).includes("Deno.test"), entry);
  }
});
