// Promise: an answer is read from its beginning to its end, by everybody, whenever they come.

import assert from "node:assert/strict";
import { test } from "node:test";

import { chatTransport, readStream } from "../../client/ai.js";
import { connect, publish } from "../../client.js";
import { Server, skip, until } from "../server.js";

const WORDS = ["The ", "tide\n", "comes ", "123 ", "in"];

test("an answer is read while it is written, and from its beginning by who comes late", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const say = (event, data) => publish(server.url, { room: "answer", event, data });
  const read = async (answer) => {
    let text = "";
    for await (const piece of answer) text += piece;
    return [text, await answer.closed];
  };
  const early = read(readStream(server.url, { room: "answer" }));
  for (const word of WORDS.slice(0, 3)) await say("token", word);
  const late = read(readStream(server.url, { room: "answer" }));
  for (const word of WORDS.slice(3)) await say("token", word);
  await say("done", { usage: 5 });
  const after = read(readStream(server.url, { room: "answer" }));
  const wanted = [WORDS.join(""), { reason: "done", detail: '{"usage":5}' }];
  assert.deepEqual(await Promise.all([early, late, after]), [wanted, wanted, wanted]);
});

test("stop tells the writer, and ends the reading", { skip }, async (t) => {
  const server = await Server.start(t);
  const writer = connect({ url: server.url, rooms: "answer" });
  t.after(writer.close);
  let told = 0;
  writer.on("stop", () => told++);
  await until("a writer", () => writer.status.state == "open");
  const answer = readStream(server.url, { room: "answer" });
  await publish(server.url, { room: "answer", event: "token", data: "one" });
  const pieces = [];
  for await (const piece of answer) {
    pieces.push(piece);
    await answer.stop();
  }
  assert.deepEqual(pieces, ["one"]);
  assert.deepEqual((await answer.closed).reason, "stopped");
  await until("the writer to know", () => told == 1);
});

test("a gap and a refusal end it, and say so", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const lost = readStream(server.url, { room: "answer", since: "zzzzzz-1" });
  await publish(server.url, { room: "answer", event: "token", data: "one" });
  await assert.rejects(async () => {
    for await (const _ of lost);
  }, /gap/);
  assert.equal((await lost.closed).reason, "gap");
  const refused = readStream(server.url, { room: "x".repeat(200) });
  assert.deepEqual(await refused.closed, { reason: "closed", detail: "room_invalid" });
});

test("a chat's transport reads chunks, goes on after a reload, and aborts", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const asked = [];
  const transport = chatTransport(server.url, { send: async ({ messages }) => void asked.push(messages) });
  const chunk = (data) => publish(server.url, { room: "chat-7", event: "chunk", data });
  const collect = async (stream) => {
    const found = [];
    for await (const { type, delta } of stream) found.push(delta ?? type);
    return found;
  };
  assert.equal(await transport.reconnectToStream({ chatId: "chat-7" }), null, "nothing yet");

  const first = collect(await transport.sendMessages({ chatId: "chat-7", messages: ["hi"] }));
  await until("the question", () => asked.length == 1);
  assert.deepEqual(asked, [["hi"]]);
  await chunk({ type: "start" });
  await chunk({ type: "text-delta", id: "1", delta: "He" });
  const again = await transport.reconnectToStream({ chatId: "chat-7" });
  const second = collect(again);
  await chunk({ type: "text-delta", id: "1", delta: "llo" });
  await chunk({ type: "finish" });
  assert.deepEqual(await Promise.all([first, second]), [["start", "He", "llo", "finish"], ["start", "He", "llo", "finish"]]);
  assert.equal(await transport.reconnectToStream({ chatId: "chat-7" }), null, "it is over");

  const stops = new AbortController();
  const third = collect(await transport.sendMessages({ chatId: "chat-7", messages: [], abortSignal: stops.signal }));
  await until("the question", () => asked.length == 2);
  stops.abort();
  assert.deepEqual(await third, ["abort"]);

  const failing = chatTransport(server.url, { send: () => Promise.reject(Error("no model")) });
  assert.deepEqual(await collect(await failing.sendMessages({ chatId: "8" })), ["error"]);
});

test("a chat's answer that is longer than a page of history is found from its beginning", { skip }, async (t) => {
  const server = await Server.start(t, { HISTORY_EVENTS: "5000" });
  const chunks = (all) => publish(server.url, all.map((data) => ({ room: "chat", event: "chunk", data })));
  await chunks([{ type: "start" }, { type: "text-delta", delta: "before" }, { type: "finish" }, { type: "start" }]);
  for (let n = 0; n < 15; n++) await chunks(Array.from({ length: 100 }, () => ({ type: "text-delta", delta: "x" })));
  const transport = chatTransport(server.url, { send: async () => {} });
  const answer = await transport.reconnectToStream({ chatId: "chat" });
  await chunks([{ type: "finish" }]);
  const types = [];
  for await (const { type } of answer) types.push(type);
  assert.deepEqual(types, ["start", ...Array(1500).fill("text-delta"), "finish"]);
});
