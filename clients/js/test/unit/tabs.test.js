// Tabs that share a stream, without a browser: each is a module of its own, with stand-ins for locks and channels.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { World, event, own, settled } from "./world.js";

/** Web Locks for one page or several. */
class Locks {
  held = new Map();
  waiting = [];

  request(name, { steal, signal }, use) {
    return new Promise((resolve, reject) => {
      const wish = { name, use, resolve, reject };
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener("abort", () => {
        if (!this.waiting.includes(wish)) return;
        this.waiting.splice(this.waiting.indexOf(wish), 1);
        reject(signal.reason);
      });
      if (steal) {
        this.held.get(name)?.reject(new Error("stolen"));
        this.held.delete(name);
        this.waiting.unshift(wish);
      } else this.waiting.push(wish);
      queueMicrotask(() => this.next());
    });
  }

  next() {
    for (const wish of [...this.waiting]) {
      if (this.held.has(wish.name)) continue;
      this.waiting.splice(this.waiting.indexOf(wish), 1);
      this.held.set(wish.name, wish);
      const end = (settle) => (value) => {
        if (this.held.get(wish.name) == wish) this.held.delete(wish.name);
        settle(value);
        this.next();
      };
      Promise.resolve({}).then(wish.use).then(end(wish.resolve), end(wish.reject));
    }
  }
}

/** Channels that deliver with the next microtask. */
class Channel {
  static all = new Set();
  constructor(name) {
    this.name = name;
    Channel.all.add(this);
  }
  postMessage(message) {
    const data = structuredClone(message);
    for (const other of Channel.all) if (other != this && other.name == this.name) queueMicrotask(() => Channel.all.has(other) && other.onmessage?.({ data }));
  }
  close() {
    Channel.all.delete(this);
  }
}

/** A world with tabs. */
function start(t) {
  const world = new World(t);
  const random = { n: 0 };
  // Names are told apart by chance.
  t.mock.method(Math, "random", () => (random.n += 1 / 1024));
  navigator.locks = new Locks();
  const before = globalThis.BroadcastChannel;
  globalThis.BroadcastChannel = Channel;
  t.after(() => (globalThis.BroadcastChannel = before));
  return world;
}

let loaded = 0;

/** One more tab: what it was given, and how its stream ended. */
async function open(world, t, { reach, at, token, rooms = ["a"], module } = {}) {
  module ??= (await import(`../../client/tabs.js?${loaded++}`)).default;
  reach ??= { url: "/sse", fetch: world.fetch };
  const attempt = new AbortController();
  t.after(() => attempt.abort(new Error("over")));
  const tab = { module, reach, attempt, frames: [], end: undefined };
  const query = new URLSearchParams(rooms.map((room) => ["room", room]));
  if (at) query.append("last_event_id", at);
  tab.done = module(reach, "/stream?" + query, token, attempt).then(async (answer) => {
    tab.answer = answer;
    if (!answer.body) return;
    for await (const frame of answer.body) tab.frames.push(frame);
    tab.end = "ended";
  });
  tab.done.catch((error) => (tab.end = error));
  await settled();
  return tab;
}

const polls = (world) => world.requests.filter(({ query }) => query.has("poll"));
const streams = (world) => world.requests.filter(({ query }) => !query.has("poll"));
const live = (world) => streams(world).filter(({ isAborted, body }) => !isAborted && body);
const data = ({ frames }) => frames.filter((frame) => frame.data != null && !frame.event).map((frame) => frame.data);

/** The tab's first poll is answered, and the stream of all opens. */
async function enters(world, more = {}) {
  await world.last.connects("k3v9q2-1", more);
  await world.last.ends();
  await world.pass(250);
  await world.last.connects("k3v9q2-1", more);
}

describe("tabs", () => {
  test("a new leader hears its own tab: the last of two goes on at once", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await enters(world);
    const two = await open(world, t);
    await enters(world);
    assert.equal(live(world).length, 1);
    one.attempt.abort(new Error("closed"));
    await world.pass(250);
    assert.equal(world.last.isAborted, false);
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "2") });
    assert.deepEqual(data(two), ["2"]);
  });

  test("a new leader hears its own tab: a lone one whose stream broke has the next at once", async (t) => {
    const world = start(t);
    const { module, reach } = await open(world, t);
    await enters(world);
    await world.last.breaks();
    const before = streams(world).length;
    const again = await open(world, t, { module, reach, at: "k3v9q2-1" });
    await world.pass(250);
    assert.equal(streams(world).length, before + 1);
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "2") });
    assert.deepEqual(data(again), ["2"]);
  });

  test("an attempt that is over before it begins leaves nothing behind", async (t) => {
    const world = start(t);
    const { default: share } = await import(`../../client/tabs.js?${loaded++}`);
    const reach = { url: "/sse", fetch: world.fetch };
    await assert.rejects(share(reach, "/stream?room=a", undefined, { signal: AbortSignal.abort(new Error("closed")) }), /closed/);
    assert.equal(world.requests.length, 0);
  });

  test("a stream that is closed while the module is loading leaves nothing behind", async (t) => {
    const world = start(t);
    const stream = world.connect({ tabs: true });
    await Promise.resolve();
    await Promise.resolve();
    stream.close();
    await new Promise((next) => setImmediate(next));
    await settled();
    assert.deepEqual(world.requests.filter(({ isAborted }) => !isAborted), []);
  });

  test("a worker has no document", async (t) => {
    const world = start(t);
    globalThis.document = undefined;
    const one = await open(world, t);
    await enters(world, { text: event("k3v9q2-2", "2") });
    assert.deepEqual(data(one), ["2"]);
  });

  test("204 to the leader is heard by each tab: this attempt ends, and the next one has it", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await enters(world);
    await world.last.breaks();
    const again = await open(world, t, { ...one, at: "k3v9q2-1" });
    await world.pass(250);
    await world.last.refuses(204);
    assert.ok(world.last.query.has("poll"), "it asks by itself");
    await world.last.refuses(204);
    await again.done;
    assert.equal(again.answer.status, 204);
  });

  test("204 to a poll of a stream that has begun ends it", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(250);
    await world.last.refuses(204);
    await world.last.refuses(204);
    assert.equal(one.end, "ended");
  });

  test("a stream that is not opened ends those who were in the one before it", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await enters(world);
    const two = await open(world, t);
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(250);
    await world.last.refuses(503, "full", { "retry-after": "9" });
    for (const { end } of [one, two]) assert.deepEqual([end.status, end.code, end.retryMs], [503, "full", 9000]);
  });

  test("overload in place of a stream is told to all, with its retry", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await enters(world);
    const two = await open(world, t);
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(250);
    await world.last.sends(`retry: 7000\n${own("overload", { reason: "full" })}`);
    await world.last.ends();
    for (const { frames, end } of [one, two]) {
      assert.equal(end, "ended");
      assert.deepEqual([frames.at(-1).event, frames.at(-1).retry], ["overload", "7000"]);
    }
  });

  test("overload in answer to a tab's own poll ends it, also where it has a place", async (t) => {
    const world = start(t);
    const one = await open(world, t, { at: "k3v9q2-1" });
    await world.last.sends(`retry: 7000\n${own("overload", { reason: "full" })}`);
    await world.last.ends();
    assert.equal(one.end, "ended");
  });

  test("another stream in the same page is of its own user", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await enters(world);
    one.attempt.abort(new Error("closed"));
    const two = await open(world, t, { module: one.module, reach: { ...one.reach }, at: "k3v9q2-1" });
    assert.ok(world.last.query.has("poll"), "it asks whose it is");
    await enters(world, { user: "v", text: event("k3v9q2-2", "2") });
    assert.deepEqual(data(two), ["2"]);
  });

  test("a tab does not follow a stream of another user", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await enters(world);
    const two = await open(world, t);
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(250);
    await world.last.connects("k3v9q2-1", { user: "v", text: event("k3v9q2-2", "private") });
    for (const tab of [one, two]) {
      assert.deepEqual(data(tab), []);
      assert.equal(tab.end, "ended");
    }
    const again = await open(world, t, { ...one, at: "k3v9q2-1" });
    assert.ok(world.last.query.has("poll"));
    await enters(world, { user: "v", text: event("k3v9q2-2", "3") });
    assert.deepEqual(data(again), ["3"]);
  });

  test("the leader asks with the token of the tab that begins", async (t) => {
    const world = start(t);
    await open(world, t, { token: "old" });
    await enters(world);
    await open(world, t, { token: "new" });
    await enters(world);
    assert.equal(live(world).length, 1);
    assert.equal(world.last.headers.authorization, "Bearer new");
  });

  test("an event with an id of its publisher comes once, whatever stands after it", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    const text = event("mine", "1") + event("k3v9q2-5", "2") + event("theirs", "3");
    await enters(world, { text });
    await open(world, t);
    await enters(world, { text });
    assert.deepEqual(data(one), ["1", "2", "3"]);
  });

  test("ids of publishers without end end nothing", async (t) => {
    const world = start(t);
    const one = await open(world, t);
    await enters(world);
    for (let n = 0; n < 3; n++) {
      await world.last.sends(Array.from({ length: 500 }, (_, index) => event(`mine ${n} ${index}`, "1")).join(""));
    }
    assert.equal(one.end, undefined);
    assert.equal(data(one).length, 1500);
  });
});
