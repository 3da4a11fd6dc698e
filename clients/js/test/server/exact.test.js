// Promise: against the real server, through whatever a network and a server's life bring, a stream gives every event once and
// in order, or a gap first.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, publish } from "../../client.js";
import { Network, Server, skip, until } from "../server.js";

const FAST = { backoff: { baseMs: 20, capMs: 200 } };

/** A stream that keeps what it is given. */
function listener(t, options) {
  const stream = connect({ rooms: "a", ...FAST, ...options });
  const got = [];
  const gaps = [];
  stream.on("n", ({ data }) => got.push(data));
  stream.on("gap", ({ data }) => gaps.push(data));
  t.after(stream.close);
  return { stream, got, gaps };
}

const open = (stream) => until("an open stream", () => stream.status.state == "open", () => stream.status);

/** Publishes the numbers from `from` up to `to`, in batches. */
async function count(url, from, to, more = {}) {
  for (let n = from; n < to; n += 50) {
    const batch = [];
    for (let k = n; k < Math.min(n + 50, to); k++) batch.push({ room: "a", event: "n", data: k, ...more });
    await publish(url, batch);
  }
}

const numbers = (to) => [...Array(to).keys()];

test("100 cuts anywhere lose nothing and repeat nothing", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms", HISTORY_EVENTS: "100000" });
  const network = await Network.before(t, server);
  // Each connection is cut after so many bytes of its answer: in the head, in `connected`, in an event.
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed}`);
  let state = seed;
  const random = () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
  network.plan = Array.from({ length: 100 }, () => 1 + Math.floor(random() * 2500));
  const { got, gaps, stream } = listener(t, { url: network.url, since: (await publish(server.url, { room: "b", data: 0 })).id, transport: "stream" });
  const total = 3000;
  const publishing = count(server.url, 0, total);
  await publishing;
  await until("all events", () => got.length >= total && network.plan.length == 0, () => [got.length, network.plan.length, stream.status]);
  assert.deepEqual(got, numbers(total));
  assert.deepEqual(gaps, []);
  assert.ok(network.count > 100);
});

test("resets of everything, again and again", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const network = await Network.before(t, server);
  const { got, gaps, stream } = listener(t, { url: network.url });
  await open(stream);
  for (let n = 0; n < 500; n += 50) {
    await count(server.url, n, n + 50);
    network.cut();
  }
  await until("all events", () => got.length >= 500, () => got.length);
  assert.deepEqual(got, numbers(500));
  assert.deepEqual(gaps, []);
});

test("a restart is told as a gap, and what follows is whole", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const held = [];
  const { got, gaps, stream } = listener(t, { url: server.url, onGap: async (gap) => void held.push(gap.reason) });
  await open(stream);
  await count(server.url, 0, 100);
  await until("the first", () => got.length == 100);
  await server.kill();
  await server.again();
  // Before the stream is back: this is what may be missing.
  await count(server.url, 100, 110);
  await until("a gap", () => gaps.length > 0, () => stream.status);
  const after = got.length;
  await count(server.url, 110, 150);
  await until("the rest", () => got.at(-1) == 149, () => got.slice(after));
  assert.equal(gaps[0].reason, "restart");
  assert.deepEqual(held, ["restart"]);
  assert.deepEqual(got.slice(-40), numbers(150).slice(110));
  assert.equal(new Set(got).size, got.length, "nothing twice");
});

test("a full server is asked again after its time", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms", MAX_CONNECTIONS: "1" });
  const first = listener(t, { url: server.url });
  await open(first.stream);
  const second = listener(t, { url: server.url });
  await until("a refusal", () => second.stream.status.reason == "full", () => second.stream.status);
  assert.equal(second.stream.status.state, "waiting");
  assert.ok(second.stream.status.retryAt > 0);
  first.stream.close();
  await open(second.stream);
  await count(server.url, 0, 10);
  await until("events", () => second.got.length == 10);
});

test("a full server that refuses with a status is asked again, too", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms", MAX_CONNECTIONS: "1", REFUSAL: "status" });
  const first = listener(t, { url: server.url });
  await open(first.stream);
  const second = listener(t, { url: server.url });
  await until("a refusal", () => second.stream.status.reason == "full", () => second.stream.status);
  first.stream.close();
  await open(second.stream);
});

test("a drain is told, and the stream goes on at the next server", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const { got, stream } = listener(t, { url: server.url });
  const reasons = [];
  stream.watch(({ reason }) => reason && reasons.push(reason));
  await open(stream);
  await count(server.url, 0, 10);
  await until("events", () => got.length == 10);
  await server.drain();
  await server.again();
  await open(stream);
  assert.equal(reasons[0], "drain");
  await count(server.url, 10, 20);
  await until("more", () => got.length == 20, () => [got, stream.status]);
  assert.deepEqual(got, numbers(20));
});

test("a slow reader is told of what it missed", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms", HISTORY_EVENTS: "20", SEND_BUFFER: "4KiB" });
  // The application takes its time with the first gap.
  let go;
  const onGap = () => (go ? undefined : new Promise((done) => (go = done)));
  const { got, gaps, stream } = listener(t, { url: server.url, onGap, since: "zzzzzz-1" });
  await until("a gap", () => go, () => stream.status);
  for (let n = 0; n < 200; n++) await publish(server.url, { room: "a", event: "big", data: "x".repeat(50_000) });
  await count(server.url, 0, 10);
  go();
  await until("the newest", () => got.length == 10, () => [got, gaps]);
  assert.deepEqual(got, numbers(10));
  assert.deepEqual([...new Set(gaps.map(({ reason }) => reason))], ["restart", "slow"]);
});

test("long polling is as exact", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const network = await Network.before(t, server);
  const { got, gaps, stream } = listener(t, { url: network.url, transport: "poll" });
  await open(stream);
  assert.equal(stream.status.via, "poll");
  for (let n = 0; n < 30; n += 10) {
    await count(server.url, n, n + 10);
    if (n == 10) network.cut();
  }
  await until("all events", () => got.length >= 30, () => got.length);
  assert.deepEqual(got, numbers(30));
  assert.deepEqual(gaps, []);
});

test("rooms that are joined and left, with history and an inbox", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  await count(server.url, 0, 10);
  const { got, gaps, stream } = listener(t, { url: server.url, user: "me", history: 3 });
  await until("history", () => got.length == 3);
  assert.deepEqual(got, [7, 8, 9]);
  stream.join("b");
  await publish(server.url, [{ room: "b", event: "n", data: "b" }, { user: "me", event: "n", data: "inbox" }]);
  await until("both", () => got.length == 5, () => got);
  stream.leave("a");
  await until("leaving", () => stream.status.state == "open");
  await publish(server.url, [{ room: "a", event: "n", data: "a" }, { room: "b", event: "n", data: "b again" }]);
  await until("b", () => got.length == 6, () => got);
  assert.deepEqual(got.slice(3), ["b", "inbox", "b again"]);
  assert.deepEqual(gaps, []);
});

test("what the server refuses closes the stream with its code", { skip }, async (t) => {
  const server = await Server.start(t);
  const { stream } = listener(t, { url: server.url, rooms: "x".repeat(200) });
  await until("an end", () => stream.status.state == "closed");
  assert.equal(stream.status.reason, "room_invalid");
  await assert.rejects(publish(server.url, { room: "a" }), { status: 422, code: "data_missing" });
});

test("a key publishes once", { skip }, async (t) => {
  const server = await Server.start(t);
  const { got, stream } = listener(t, { url: server.url });
  await open(stream);
  const event = { room: "a", event: "n", data: 1 };
  const first = await publish(server.url, event, { key: "k" });
  assert.deepEqual(await publish(server.url, event, { key: "k" }), first);
  await publish(server.url, { ...event, data: 2 });
  await until("the last", () => got.at(-1) == 2);
  assert.deepEqual(got, [1, 2]);
});
