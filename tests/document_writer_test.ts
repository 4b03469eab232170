import { MemoryBackend } from "../src/backends/memory.ts";
import type { DocumentStore, StoredDocument } from "../src/backends/backend.ts";
import { BackendError } from "../src/errors.ts";
import { DocumentWriter } from "../src/monitoring/document_writer.ts";
import { Alarm } from "../src/pipeline/events.ts";
import { assertEquals } from "./assert.ts";
import { FakeTime, settle } from "./fake_time.ts";

const alert = (body: string): StoredDocument => ({ kind: "alert", id: "a", body });

/** Documents in memory, with writes that take as long as the test wants, or fail. */
function slowDocuments() {
  const { documents } = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  const started: unknown[] = [];
  const gates: PromiseWithResolvers<void>[] = [];
  const store: DocumentStore = {
    read: (kind) => documents.read(kind),
    delete: (kind, id) => documents.delete(kind, id),
    write: async (document, options) => {
      started.push(document.body);
      const gate = Promise.withResolvers<void>();
      gates.push(gate);
      await gate.promise;
      return await documents.write(document, options);
    },
  };
  const stored = async () => (await documents.read("alert")).map(({ body }) => body);
  return { store, stored, started, gates };
}

const down = () =>
  new BackendError("away", { code: "CONNECTION_LOST", operation: "write", kind: "transient" });
const silent = () => new Alarm("system_metrics", () => {});

Deno.test("DocumentWriter stores a newer version that comes while an older one is written", async () => {
  const { store, stored, started, gates } = slowDocuments();
  const writer = new DocumentWriter(store, silent());
  writer.save(alert("fired"));
  await settle();
  writer.save(alert("resolved"));
  assertEquals(writer.pending.map(({ body }) => body), ["resolved"]);
  gates[0].resolve();
  await settle();
  assertEquals([started, writer.pending.map(({ body }) => body)], [["fired", "resolved"], ["resolved"]]);
  gates[1].resolve();
  await settle();
  assertEquals([await stored(), writer.pending], [["resolved"], []]);
  await writer.close();
});

Deno.test("DocumentWriter stores the newest version when writes fail meanwhile", async () => {
  using time = new FakeTime();
  const { store, stored, started, gates } = slowDocuments();
  const told: string[] = [];
  const writer = new DocumentWriter(store, new Alarm("system_metrics", ({ type }) => told.push(type)));
  writer.save(alert("fired"));
  await settle();
  writer.save(alert("resolved"));
  gates[0].reject(down());
  await settle();
  assertEquals(told, ["paused"]);
  await time.pass(60_000);
  gates[1].resolve(); // the older one again
  await settle();
  gates[2].resolve();
  await settle();
  assertEquals(started.at(-1), "resolved");
  assertEquals([await stored(), writer.pending, told], [["resolved"], [], ["paused", "resumed"]]);
  await writer.close();
});

Deno.test("DocumentWriter tries once more what is not stored when it closes", async () => {
  using _ = new FakeTime(); // a wait that never ends by itself
  const { store, stored, gates } = slowDocuments();
  const writer = new DocumentWriter(store, silent());
  writer.save(alert("fired"));
  await settle();
  gates[0].reject(down());
  await settle();
  assertEquals(await stored(), []);
  const closed = writer.close();
  await settle();
  gates[1].resolve();
  await closed;
  assertEquals([await stored(), gates.length], [["fired"], 2]);
});

Deno.test("DocumentWriter stores what is saved the moment that all else is stored", async () => {
  const { store, stored, started, gates } = slowDocuments();
  const writer = new DocumentWriter(store, silent());
  writer.save(alert("first"));
  await settle();
  gates[0].resolve();
  for (let turn = 0; turn < 30 && started.length < 2; turn++) {
    await Promise.resolve(); // each turn of the microtasks between the last write and the end of the run
    if (writer.pending.length === 0 && started.length === 1) writer.save(alert("second"));
  }
  await settle();
  gates[1]?.resolve();
  await settle();
  assertEquals([await stored(), writer.pending], [["second"], []]);
  await writer.close();
});
