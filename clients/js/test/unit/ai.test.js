// The readers of answers, where they end.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { chatTransport, readStream } from "../../client/ai.js";
import { World, event, settled } from "./world.js";

const chunk = (n, data) => event(`k3v9q2-${n}`, JSON.stringify(data), { type: "chunk", room: "chat" });

/** A chat that asks, and everything that is thrown where nobody catches it. */
async function start(t, more = {}) {
  const world = new World(t);
  const errors = [];
  const asked = [];
  const transport = chatTransport("/sse", { fetch: world.fetch, user: "u", onError: (error) => errors.push(error), send: (request) => void asked.push(request), ...more });
  return { world, errors, asked, transport };
}

describe("a chat's transport", () => {
  test("takes nothing after the end, and has nothing to stop then", async (t) => {
    const { world, errors, transport } = await start(t);
    const ends = new AbortController();
    const reader = (await transport.sendMessages({ chatId: "chat", abortSignal: ends.signal })).getReader();
    await settled();
    await world.last.connects("k3v9q2-1", { text: chunk(2, { type: "finish" }) + chunk(3, { type: "start" }) });
    assert.equal((await reader.read()).value.type, "finish");
    assert.equal((await reader.read()).done, true);
    const before = world.requests.length;
    ends.abort();
    await settled();
    assert.equal(world.requests.length, before, "there is nothing to stop");
    assert.deepEqual(errors, []);
  });

  test("that is cancelled takes nothing more, also not why the question failed", async (t) => {
    let refuse;
    const { transport, world } = await start(t, { send: () => new Promise((_, reject) => (refuse = reject)) });
    const unhandled = [];
    const note = (error) => unhandled.push(error);
    process.on("unhandledRejection", note);
    t.after(() => process.off("unhandledRejection", note));
    const ends = new AbortController();
    const stream = await transport.sendMessages({ chatId: "chat", abortSignal: ends.signal });
    await settled();
    await world.last.connects("k3v9q2-1");
    await stream.cancel();
    refuse(new Error("no model"));
    await settled();
    ends.abort();
    await settled();
    assert.deepEqual(unhandled, []);
    assert.equal(world.requests.length, 1, "nor is it stopped");
  });

  test("sees a signal that is aborted already, and asks nobody", async (t) => {
    const { world, asked, transport } = await start(t);
    await assert.rejects(transport.sendMessages({ chatId: "chat", abortSignal: AbortSignal.abort() }), { name: "AbortError" });
    await settled();
    assert.deepEqual([world.requests.length, asked.length], [0, 0]);
  });
});

test("an answer of more than a thousand pieces at once has no gap", async (t) => {
  const world = new World(t);
  const answer = readStream("/sse", { fetch: world.fetch, user: "u", room: "a" });
  await settled();
  const pieces = Array.from({ length: 3000 }, (_, n) => event(`k3v9q2-${n + 2}`, "x", { type: "token" }));
  await world.last.connects("k3v9q2-1", { text: pieces.join("") + event("k3v9q2-4000", "1", { type: "done" }) });
  let text = "";
  for await (const piece of answer) text += piece;
  assert.equal(text.length, 3000);
});
