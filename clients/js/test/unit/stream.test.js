// The rules of docs/client.md, one by one, against a server that the test writes and a clock that the test moves.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

// Loaded before a test asks for it, so that it comes at once.
import "../../client/poll.js";
import { presence } from "../../client/presence.js";
import { Store, World, event, gap, own, settled } from "./world.js";

/** Everything that listeners of a stream are given, and its states. */
function record(stream) {
  const messages = [];
  const states = [];
  stream.onAny((message) => messages.push(message));
  stream.watch((status) => states.push(status));
  return { messages, states, data: () => messages.map((message) => message.data) };
}

/** How long after a failure the next request comes, to a quarter of a second. */
async function waits(world, fail) {
  const before = world.requests.length;
  await fail();
  await world.pass(1);
  for (let ms = 0; ms <= 120_000; ms += 250) {
    if (world.requests.length > before) return ms;
    await world.pass(250);
  }
  return Infinity;
}

describe("asking", () => {
  test("begins with the next microtask, so that listeners added at once miss nothing", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    assert.equal(stream.status.state, "idle");
    assert.equal(world.requests.length, 0);
    await settled();
    assert.equal(stream.status.state, "connecting");
    assert.equal(world.last.path, "/api/v1/sse/stream");
    assert.deepEqual([...world.last.query], [["heartbeat", "id"], ["room", "a"], ["user", "u"]]);
    assert.equal(world.last.headers.accept, "text/event-stream");
    assert.equal(world.last.init.cache, "no-store");
    assert.equal(world.last.init.method ?? "GET", "GET");
  });

  test("names the server, rooms, history, credentials and headers as it is told", async (t) => {
    const world = new World(t);
    const headers = { "x-tenant": "t" };
    world.connect({ url: "https://push.example/sse", rooms: ["a b", "c&d"], user: undefined, history: 0, credentials: "include", headers, presence: true });
    await settled();
    assert.equal(world.last.path, "https://push.example/sse/stream");
    assert.deepEqual([...world.last.query], [["heartbeat", "id"], ["room", "a b"], ["room", "c&d"], ["history", "0"], ["presence", "on"]]);
    assert.equal(world.last.init.credentials, "include");
    assert.equal(world.last.headers["x-tenant"], "t");
  });

  test("a stream that is closed at once sends nothing", async (t) => {
    const world = new World(t);
    world.connect().close();
    world.connect({ signal: AbortSignal.abort() });
    await settled();
    assert.equal(world.requests.length, 0);
  });

  test("an inbox needs no room", async (t) => {
    const world = new World(t);
    world.connect({ rooms: undefined });
    await settled();
    assert.deepEqual([...world.last.query], [["heartbeat", "id"], ["user", "u"]]);
  });
});

describe("delivery", () => {
  test("gives data, name, id and room", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    const { messages } = record(stream);
    await settled();
    await world.last.connects("k3v9q2-1");
    await world.last.sends(event("k3v9q2-2", '{"n":1}', { type: "price" }) + event("k3v9q2-3", "plain", { room: null }) + "data: 7\n\n");
    assert.deepEqual(messages, [
      { type: "price", data: { n: 1 }, id: "k3v9q2-2", room: "a" },
      { type: "message", data: "plain", id: "k3v9q2-3", room: null },
      { type: "message", data: 7, id: null, room: null },
    ]);
    assert.equal(stream.status.state, "open");
    assert.equal(stream.status.connection, "0.1.0");
    assert.equal(stream.status.user, "u");
    assert.equal(stream.status.cursor, "k3v9q2-3");
  });

  test("parse: text leaves data alone, a function decides, and one that throws is told of and passed over", async (t) => {
    const world = new World(t);
    const errors = [];
    const seen = [];
    for (const parse of ["text", (data, type) => [type, data], () => assert.fail("no")]) {
      const stream = world.connect({ parse, onError: (error) => errors.push(error.message) });
      stream.on("price", ({ data }) => seen.push(data));
      await settled();
      await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", '{"n":1}', { type: "price" }) });
      assert.equal(stream.status.connection, "0.1.0", "the server's own events are always JSON");
    }
    assert.deepEqual(seen, ['{"n":1}', ["price", '{"n":1}'], '{"n":1}']);
    assert.deepEqual(errors, ["no"]);
  });

  test("listeners are for a name, a room and a time", async (t) => {
    const world = new World(t);
    const stream = world.connect({ rooms: ["a", "b"] });
    const seen = [];
    const ends = new AbortController();
    stream.on("x", () => seen.push("x"));
    stream.on("x", () => seen.push("x in b"), { room: "b" });
    const off = stream.on("x", () => seen.push("off"));
    stream.on("x", () => seen.push("signal"), { signal: ends.signal });
    stream.on("x", () => seen.push("never"), { signal: AbortSignal.abort() });
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1", { type: "x" }) });
    off();
    ends.abort();
    await world.last.sends(event("k3v9q2-3", "1", { type: "x", room: "b" }) + event("k3v9q2-4", "1", { type: "y" }));
    assert.deepEqual(seen, ["x", "off", "signal", "x", "x in b"]);
  });

  test("the server's own events go to those who name them; a gap goes to all", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    const { messages } = record(stream);
    const named = [];
    for (const type of ["connected", "gap", "presence", "muted", "stale", "replayed"]) stream.on(type, (message) => named.push(message.type));
    await settled();
    await world.last.connects(null, { text: own("replayed", { events: 0 }, "k3v9q2-5") + gap("k3v9q2-9") });
    await world.last.sends(own("presence", { type: "count" }) + own("muted", { room: "a", until: null }) + own("stale", { away_s: 10 }));
    assert.deepEqual(named, ["connected", "replayed", "gap", "presence", "muted", "stale"]);
    assert.deepEqual(messages.map(({ type }) => type), ["gap"]);
  });

  test("a listener that throws stops neither the others nor the reader", async (t) => {
    const world = new World(t);
    const errors = [];
    const stream = world.connect({ onError: (error) => errors.push(error.message) });
    stream.onAny(() => assert.fail("bad listener"));
    stream.watch(() => assert.fail("bad watcher"));
    const { messages, states } = record(stream);
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") });
    await world.last.sends(event("k3v9q2-3", "2"));
    assert.deepEqual(messages.map(({ data }) => data), [1, 2]);
    assert.deepEqual(states.map(({ state }) => state), ["connecting", "open"]);
    assert.deepEqual(errors.sort(), ["bad listener", "bad listener", "bad watcher", "bad watcher"]);
  });

  test("an onError that throws does no harm; without one the console is told of listeners", async (t) => {
    const world = new World(t);
    const said = t.mock.method(console, "error", () => {});
    const one = world.connect({ onError: () => assert.fail("worse") });
    one.onAny(() => assert.fail("bad"));
    const { messages } = record(one);
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") });
    assert.equal(messages.length, 1);
    assert.equal(said.mock.callCount(), 0);
    const two = world.connect();
    two.onAny(() => assert.fail("bad"));
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") });
    assert.equal(said.mock.callCount(), 1);
    await world.last.breaks();
    assert.equal(said.mock.callCount(), 1, "a network that fails is no news for the console");
  });

  test("after close nothing more is given, not even of the same piece", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    const { data } = record(stream);
    stream.onAny(() => stream.close());
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") + event("k3v9q2-3", "2") });
    assert.deepEqual(data(), [1]);
    assert.equal(world.last.isAborted, true);
    await world.pass(600_000);
    assert.equal(world.requests.length, 1);
    assert.equal(stream.status.state, "closed");
    assert.equal(stream.status.reason, null);
    stream.reconnect();
    await settled();
    assert.equal(world.requests.length, 1, "close is for good");
  });
});

describe("the cursor", () => {
  test("is the last id of any frame, with data or without", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") + ":\nid: k3v9q2-40\n\n" });
    assert.equal(stream.status.cursor, "k3v9q2-40");
    await world.last.sends("id: k3v9q2-41\ndata: not ended\n");
    await world.last.breaks();
    await world.pass(3000);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-40");
  });

  test("moves with connected, gap and replayed, and not with what has no id", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.connects("k3v9q2-1");
    assert.equal(stream.status.cursor, "k3v9q2-1");
    await world.last.sends(own("replayed", { events: 0 }, "k3v9q2-5"));
    assert.equal(stream.status.cursor, "k3v9q2-5");
    await world.last.sends(gap("k3v9q2-9") + own("muted", { room: "a", until: null }) + "id:\n\n");
    assert.equal(stream.status.cursor, "k3v9q2-9");
  });

  test("drops what is at or below it in the same epoch, and nothing else", async (t) => {
    const world = new World(t);
    const stream = world.connect({ since: "k3v9q2-9" });
    const { data } = record(stream);
    await settled();
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-9");
    const ids = ["k3v9q2-8", "k3v9q2-9", "k3v9q2-10", "k3v9q2-10", "order.7", "k3v9q2-2", "zzzzzz-1", "k3v9q2-11"];
    await world.last.connects("k3v9q2-9", { text: ids.map((id) => event(id, JSON.stringify(id))).join("") });
    assert.deepEqual(data(), ["k3v9q2-10", "order.7", "zzzzzz-1", "k3v9q2-11"]);
  });

  test("an id of a publisher is where the stream goes on", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    await world.last.connects("k3v9q2-9", { text: event("order.7", "1") });
    await world.last.breaks();
    await world.pass(3000);
    assert.equal(world.last.query.get("last_event_id"), "order.7");
  });

  test("is kept at most once a second, when the page is hidden away, and when the stream is closed", async (t) => {
    const world = new World(t);
    const storage = new Store();
    const stream = world.connect({ keep: { storage } });
    await settled();
    await world.last.connects("k3v9q2-1");
    for (let n = 2; n < 42; n++) {
      await world.last.sends(event(`k3v9q2-${n}`, "1"));
      await world.pass(100);
    }
    assert.equal(storage.writes, 4, "in four seconds");
    await world.pass(5000);
    assert.equal(storage.writes, 4, "none while nothing moves");
    await world.last.sends(event("k3v9q2-50", "1"));
    await world.happens("pagehide");
    assert.deepEqual([...storage.entries.values()], ["k3v9q2-50"]);
    await world.happens("pageshow");
    await world.last.connects("k3v9q2-50", { text: event("k3v9q2-51", "1") });
    stream.close();
    assert.deepEqual([...storage.entries.values()], ["k3v9q2-51"]);
  });

  test("is found again by the same server, user and rooms, and by no others", async (t) => {
    const world = new World(t);
    const same = { url: "/sse", user: "u", rooms: ["a", "b"], keep: true };
    const stream = world.connect(same);
    await settled();
    await world.last.connects("k3v9q2-7");
    stream.close();
    const from = async (options) => {
      const again = world.connect(options);
      await settled();
      const id = world.last.query.get("last_event_id");
      again.close();
      return id;
    };
    assert.equal(await from(same), "k3v9q2-7");
    assert.equal(await from({ ...same, url: "/other" }), null);
    assert.equal(await from({ ...same, user: "v" }), null);
    assert.equal(await from({ ...same, user: undefined }), null);
    assert.equal(await from({ ...same, rooms: "a" }), null);
    assert.equal(await from({ ...same, keep: false }), null);
    assert.equal(await from({ ...same, since: "k3v9q2-3" }), "k3v9q2-3", "what the page says counts");
  });

  test("a browser that refuses storage loses nothing else", async (t) => {
    const world = new World(t);
    const refuse = () => {
      throw new DOMException("no", "SecurityError");
    };
    for (const storage of [{ getItem: refuse, setItem: refuse }, Object.defineProperty({}, "getItem", { get: refuse })]) {
      const stream = world.connect({ keep: { storage } });
      await settled();
      await world.last.connects("k3v9q2-7");
      await world.pass(2000);
      assert.equal(stream.status.state, "open");
    }
  });

  test("without keep nothing is stored", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    await world.last.connects("k3v9q2-7");
    await world.pass(5000);
    await world.happens("pagehide");
    assert.equal(sessionStorage.writes, 0);
  });
});

describe("waiting", () => {
  test("grows from the base to the cap, by chance, and never ends", async (t) => {
    const world = new World(t);
    world.random = 0.999;
    const stream = world.connect();
    await settled();
    const waited = [];
    for (let n = 0; n < 12; n++) waited.push(await waits(world, () => world.last.fails()));
    assert.deepEqual(waited.slice(0, 8), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    assert.equal(stream.status.attempt, 12);
    world.random = 0;
    assert.equal(await waits(world, () => world.last.fails()), 0);
    world.random = 0.5;
    assert.equal(await waits(world, () => world.last.fails()), 15_000);
    assert.equal(stream.status.state, "connecting");
  });

  test("says how long, and why", async (t) => {
    const world = new World(t);
    const stream = world.connect({ backoff: { baseMs: 8000, capMs: 9000 } });
    await settled();
    await world.last.fails();
    const { state, reason, retryAt, attempt } = stream.status;
    assert.deepEqual({ state, reason, in: retryAt - Date.now(), attempt }, { state: "waiting", reason: "network", in: 4000, attempt: 1 });
    await world.pass(4000);
    await world.last.fails();
    assert.equal(stream.status.retryAt - Date.now(), 4500, "the cap");
  });

  test("is never less than the server's retry", async (t) => {
    const world = new World(t);
    world.random = 0;
    world.connect();
    await settled();
    await world.last.connects("k3v9q2-1", { retry: 7000 });
    await world.pass(2000);
    assert.equal(await waits(world, () => world.last.ends()), 7000);
    assert.equal(await waits(world, () => world.last.fails()), 7000, "also while it does not answer");
  });

  test("is never less than Retry-After", async (t) => {
    const world = new World(t);
    world.random = 0;
    const stream = world.connect();
    await settled();
    assert.equal(await waits(world, () => world.last.refuses(503, "full", { "retry-after": "9" })), 9000);
    assert.equal(stream.status.state, "connecting");
    assert.equal(await waits(world, () => world.last.refuses(503, "full", { "retry-after": "soon" })), 0);
  });

  test("begins anew after a stream that held", async (t) => {
    const world = new World(t);
    world.random = 0.999;
    const stream = world.connect();
    await settled();
    for (let n = 0; n < 5; n++) await waits(world, () => world.last.fails());
    await world.last.connects("k3v9q2-1", { retry: 0 });
    assert.equal(await waits(world, () => world.last.ends()), 16_000, "one that ends at once did not hold");
    await world.last.connects("k3v9q2-1", { retry: 0 });
    await world.pass(1000);
    assert.equal(await waits(world, () => world.last.ends()), 500);
  });

  test("is bounded by what timers can take", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    await world.last.connects("k3v9q2-1", { retry: 99_999_999_999 });
    assert.equal(await waits(world, () => world.last.ends()), Infinity);
  });

  test("offline waits for online", async (t) => {
    const world = new World(t);
    world.onLine = false;
    const stream = world.connect();
    await world.pass(600_000);
    assert.equal(stream.status.state, "offline");
    assert.equal(world.requests.length, 0);
    world.onLine = true;
    await world.happens("online");
    assert.equal(world.requests.length, 1);
    await world.last.connects("k3v9q2-1", { retry: 5000 });
    await world.pass(1000);
    world.onLine = false;
    await world.last.breaks();
    await world.pass(5000);
    assert.equal(stream.status.state, "offline");
    world.onLine = true;
    await world.happens("online");
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
    assert.equal(world.requests.length, 2);
  });

  test("a hidden page comes back with the network, too", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.connects("k3v9q2-1");
    await world.turns("hidden");
    world.onLine = false;
    await world.last.breaks();
    await world.pass(5000);
    assert.equal(stream.status.state, "offline");
    world.onLine = true;
    await world.happens("online");
    assert.equal(world.requests.length, 2);
  });

  test("online does not come before the server's retry", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.sends("retry: 60000\n" + own("overload", { reason: "full" }));
    await world.last.ends();
    assert.equal(stream.status.reason, "full");
    await world.pass(55_000);
    await world.happens("online");
    assert.equal(world.requests.length, 1);
    assert.equal(stream.status.reason, "full");
    await world.pass(5000);
    assert.equal(world.requests.length, 2);
  });
});

describe("silence", () => {
  /** An open stream that has been heard of just now. */
  const open = async (world, options) => {
    const stream = world.connect(options);
    await settled();
    await world.last.connects("k3v9q2-1");
    return stream;
  };

  test("bytes count, not events: heartbeats keep a stream alive", async (t) => {
    const world = new World(t);
    await open(world);
    for (let n = 0; n < 10; n++) {
      await world.pass(25_000);
      await world.last.sends(n % 2 ? ":\n" : ":\nid: k3v9q2-2\n\n");
    }
    assert.equal(world.requests.length, 1);
  });

  test("of a visible page ends the stream after staleMs, and resumes at once", async (t) => {
    const world = new World(t);
    const stream = await open(world);
    await world.pass(50_000);
    assert.equal(world.requests.length, 1);
    await world.pass(1500);
    assert.equal(world.requests.length, 2);
    assert.equal(world.requests[0].isAborted, true);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
    assert.equal(stream.status.state, "connecting");
  });

  test("of a hidden page is looked at when it is seen", async (t) => {
    const world = new World(t);
    await open(world, { staleMs: 10_000 });
    await world.turns("hidden");
    await world.pass(60_000);
    assert.equal(world.requests.length, 1);
    await world.turns("visible");
    assert.equal(world.requests.length, 2);
  });

  test("that is short is nothing, whatever the page does", async (t) => {
    const world = new World(t);
    await open(world);
    await world.pass(40_000);
    await world.turns("hidden");
    await world.turns("visible");
    await world.happens("online");
    await world.happens("pageshow");
    assert.equal(world.requests.length, 1);
  });

  for (const type of ["online", "pageshow", "visibilitychange"]) {
    test(`${type} ends a stream that was silent for staleMs`, async (t) => {
      const world = new World(t);
      await open(world);
      world.sleeps(51_000);
      await world.happens(type);
      assert.equal(world.requests.length, 2);
    });
  }

  test("of a computer that slept is noticed within a second", async (t) => {
    const world = new World(t);
    await open(world);
    world.sleeps(3_600_000);
    await world.pass(1000);
    assert.equal(world.requests.length, 2);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
  });

  test("while waiting for the next attempt, too", async (t) => {
    const world = new World(t);
    world.random = 0.999;
    world.connect({ staleMs: 5000 });
    await settled();
    for (let n = 0; n < 6; n++) await waits(world, () => world.last.fails());
    await world.last.fails();
    await world.pass(4000);
    await world.happens("online");
    assert.equal(world.requests.length, 7, "there was an attempt just now");
    await world.turns("hidden");
    await world.pass(4000);
    await world.happens("online");
    assert.equal(world.requests.length, 7, "a hidden page does nothing");
    await world.turns("visible");
    assert.equal(world.requests.length, 8);
  });

  test("pagehide ends the request, and pageshow resumes", async (t) => {
    const world = new World(t);
    const stream = await open(world);
    await world.happens("pagehide");
    assert.equal(world.last.isAborted, true);
    assert.equal(stream.status.state, "idle");
    await world.pass(600_000);
    assert.equal(world.requests.length, 1);
    await world.happens("pageshow");
    assert.equal(world.requests.length, 2);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
  });

  test("a closed stream is deaf to the page", async (t) => {
    const world = new World(t);
    const stream = await open(world);
    stream.close();
    world.sleeps(600_000);
    for (const type of ["pagehide", "pageshow", "online", "visibilitychange"]) await world.happens(type);
    assert.equal(world.requests.length, 1);
    assert.equal(stream.status.state, "closed");
  });
});

describe("answers", () => {
  test("204 closes the stream", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.refuses(204);
    await world.pass(600_000);
    assert.equal(world.requests.length, 1);
    assert.deepEqual([stream.status.state, stream.status.reason], ["closed", "disconnected"]);
  });

  for (const [status, code] of [[403, "forbidden"], [400, "room_invalid"], [404, "not_found"], [431, "head_too_large"]]) {
    test(`${status} closes the stream with the problem's code`, async (t) => {
      const world = new World(t);
      const errors = [];
      const stream = world.connect({ onError: (error) => errors.push(error) });
      await settled();
      await world.last.refuses(status, code);
      await world.pass(600_000);
      assert.equal(world.requests.length, 1);
      assert.deepEqual([stream.status.state, stream.status.reason], ["closed", code]);
      assert.deepEqual(errors.map((error) => [error.status, error.code, error.message]), [[status, code, `it is ${code}`]]);
      stream.reconnect();
      await settled();
      assert.equal(world.requests.length, 2, "the application may try again");
    });
  }

  test("a stream that the server has closed stays so, whatever the page does", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.refuses(403, "forbidden");
    world.sleeps(600_000);
    for (const type of ["online", "pageshow", "visibilitychange", "pagehide", "pageshow"]) await world.happens(type);
    assert.equal(world.requests.length, 1);
    assert.equal(stream.status.state, "closed");
  });

  test("a refusal that is no problem has its status", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.refuses(403);
    assert.equal(stream.status.reason, "403");
  });

  for (const status of [408, 429, 500, 502, 503]) {
    test(`${status} may pass`, async (t) => {
      const world = new World(t);
      const stream = world.connect();
      await settled();
      await world.last.refuses(status, "busy");
      assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "busy"]);
      await world.pass(1000);
      assert.equal(world.requests.length, 2);
    });
  }

  test("200 with a page instead of a stream may pass: it is somebody in the server's place", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.opens({ "content-type": "text/html" });
    assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "content_type"]);
    assert.equal(world.last.isAborted, true);
    await world.pass(1000);
    assert.equal(world.requests.length, 2);
  });

  for (const type of ["overload", "closing"]) {
    test(`${type} comes back after its retry`, async (t) => {
      const world = new World(t);
      world.random = 0;
      const stream = world.connect();
      await settled();
      await world.last.connects("k3v9q2-1");
      await world.pass(5000);
      await world.last.sends("retry: 8000\n" + own(type, { reason: "drain" }));
      await world.last.ends();
      assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "drain"]);
      await world.pass(7500);
      assert.equal(world.requests.length, 1);
      await world.pass(750);
      assert.equal(world.requests.length, 2);
      assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
    });
  }

  test("a stream that another one replaced stays away", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.connects("k3v9q2-1", { text: own("closing", { reason: "replaced" }) });
    await world.last.ends();
    await world.pass(600_000);
    assert.equal(world.requests.length, 1);
    assert.deepEqual([stream.status.state, stream.status.reason], ["closed", "replaced"]);
  });

  test("what is no event stream ends the attempt", async (t) => {
    const world = new World(t);
    const errors = [];
    world.connect({ onError: (error) => errors.push(error.name) });
    await settled();
    await world.last.connects("k3v9q2-1");
    const piece = new Uint8Array(1 << 24).fill(120);
    for (let n = 0; n < 3; n++) await world.last.sends(piece);
    assert.equal(world.last.isAborted, true);
    assert.deepEqual(errors, ["RangeError"]);
  });
});

describe("the token", () => {
  test("goes into a header, and a provider is asked for each attempt", async (t) => {
    const world = new World(t);
    const asked = [];
    world.connect({ token: async (why) => `t${asked.push(why)}` });
    await settled();
    assert.equal(world.last.headers.authorization, "Bearer t1");
    await world.last.connects("k3v9q2-1");
    await world.pass(1000);
    await world.last.ends();
    await world.pass(5000);
    assert.equal(world.last.headers.authorization, "Bearer t2");
    assert.deepEqual(asked, ["connect", "connect"]);
    assert.equal(world.last.url.includes("t2"), false, "never into the URL");
  });

  test("a text is sent as it is, and null is none", async (t) => {
    const world = new World(t);
    world.connect({ token: "fixed" });
    await settled();
    assert.equal(world.last.headers.authorization, "Bearer fixed");
    world.connect({ token: () => null });
    await settled();
    assert.equal("authorization" in world.last.headers, false);
  });

  test("401 asks the provider once, and a second 401 closes", async (t) => {
    const world = new World(t);
    const asked = [];
    const stream = world.connect({ token: (why) => void asked.push(why) });
    await settled();
    await world.last.refuses(401, "unauthorized");
    assert.equal(world.requests.length, 2);
    await world.last.refuses(401, "unauthorized");
    await world.pass(600_000);
    assert.equal(world.requests.length, 2);
    assert.deepEqual(asked, ["connect", "refused"]);
    assert.deepEqual([stream.status.state, stream.status.reason], ["closed", "unauthorized"]);
  });

  test("after a stream that was open, it is asked again", async (t) => {
    const world = new World(t);
    const asked = [];
    world.connect({ token: (why) => void asked.push(why) });
    await settled();
    await world.last.refuses(401, "unauthorized");
    await world.last.connects("k3v9q2-1");
    await world.pass(2000);
    await world.last.ends();
    await world.pass(5000);
    await world.last.refuses(401, "unauthorized");
    assert.deepEqual(asked, ["connect", "refused", "connect", "refused"]);
    assert.equal(world.requests.length, 4);
  });

  test("after a second try that had no answer, it is asked as for the first", async (t) => {
    const world = new World(t);
    const asked = [];
    world.connect({ token: (why) => (asked.push(why), "t") });
    await settled();
    await world.last.refuses(401, "unauthorized");
    await world.last.fails();
    await world.pass(1000);
    await world.last.refuses(401, "unauthorized");
    assert.deepEqual(asked, ["connect", "refused", "connect", "refused"]);
  });

  test("401 closes where there is nobody to ask", async (t) => {
    const world = new World(t);
    const stream = world.connect({ token: "fixed" });
    await settled();
    await world.last.refuses(401, "unauthorized");
    await world.pass(60_000);
    assert.equal(stream.status.state, "closed");
    assert.equal(world.requests.length, 1);
  });

  test("a provider that fails is asked again later, whatever its error says", async (t) => {
    const world = new World(t);
    const errors = [];
    const token = async () => {
      throw Object.assign(Error("session over"), { status: 403, code: "x" });
    };
    const stream = world.connect({ token, onError: (error) => errors.push(error.message) });
    await settled();
    assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "token"]);
    assert.equal(world.requests.length, 0);
    await world.pass(250);
    assert.deepEqual(errors, ["session over", "session over"]);
  });

  test("a provider that hangs is asked again, and is no reason to poll", async (t) => {
    const world = new World(t);
    let count = 0;
    const errors = [];
    const token = () => (++count < 4 ? new Promise(() => {}) : "four");
    const stream = world.connect({ token, onError: ({ message }) => errors.push(message) });
    await world.pass(10_001);
    assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "token"]);
    await world.pass(60_000);
    assert.equal(world.requests.length, 1);
    assert.equal(world.last.query.has("poll"), false);
    assert.equal(world.last.headers.authorization, "Bearer four");
    assert.deepEqual(errors, ["token", "token", "token"]);
  });

  test("a provider that is slow gets there, and the request has its time after it", async (t) => {
    const world = new World(t);
    const stream = world.connect({ token: () => new Promise((done) => setTimeout(done, 25_000, "slow")) });
    for (let ms = 0; ms < 120_000 && !world.requests.length; ms += 250) await world.pass(250);
    assert.equal(world.last?.headers.authorization, "Bearer slow");
    await world.pass(9500);
    await world.last.connects("k3v9q2-1");
    assert.equal(stream.status.state, "open");
  });

  test("a fetch that hangs and does not look at its signal is given up", async (t) => {
    const world = new World(t);
    const stream = world.connect({ fetch: () => new Promise(() => {}) });
    await world.pass(10_001);
    assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "timeout"]);
  });

  test("expiring asks the provider, and refreshes this stream", async (t) => {
    const world = new World(t);
    const asked = [];
    const stream = world.connect({ token: (why) => `t${asked.push(why)}` });
    await settled();
    const first = world.last;
    await first.connects("k3v9q2-1", { text: own("expiring", { expires_in_s: 29 }) });
    assert.equal(world.last.path, "/api/v1/sse/refresh");
    assert.equal(world.last.init.method, "POST");
    assert.equal(world.last.headers.authorization, "Bearer t2");
    assert.deepEqual(JSON.parse(world.last.init.body), { connection: "0.1.0" });
    await world.last.refuses(403, "forbidden");
    await world.pass(10_000);
    assert.equal(stream.status.state, "open", "the stream ends with its token, not with the refusal");
    assert.equal(first.isAborted, false);
    assert.deepEqual(asked, ["connect", "expiring"]);
  });

  test("expiring without a provider is only told", async (t) => {
    const world = new World(t);
    const stream = world.connect({ token: "fixed" });
    let told = 0;
    stream.on("expiring", () => told++);
    await settled();
    await world.last.connects("k3v9q2-1", { text: own("expiring", { expires_in_s: 29 }) });
    assert.equal(told, 1);
    assert.equal(world.requests.length, 1);
  });
});

describe("long polling", () => {
  /** Three streams without a byte. */
  const held = async (world) => {
    for (let n = 0; n < 3; n++) {
      await world.last.opens();
      await world.pass(10_000);
      await world.pass(n < 2 ? 2000 : 4000);
    }
  };

  test("follows three streams in a row without a byte within connectMs", async (t) => {
    const world = new World(t);
    const stream = world.connect({ history: 5 });
    await settled();
    await held(world);
    assert.equal(world.requests.length, 4);
    assert.equal(world.requests[2].isAborted, true);
    assert.equal(world.last.query.get("poll"), "1", "the first is short");
    await world.last.connects("k3v9q2-1");
    assert.equal(stream.status.via, "poll");
    await world.last.ends();
    assert.equal(stream.status.state, "open");
    await world.pass(1000);
    assert.equal(world.last.query.get("poll"), "25");
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
    assert.equal(stream.status.state, "open", "between two polls");
  });

  test("follows three streams in a row that end within a second", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    for (let n = 0; n < 3; n++) {
      await world.last.connects("k3v9q2-1", { retry: 0 });
      await (n == 1 ? world.last.breaks() : world.last.ends());
      await world.pass(4000);
    }
    assert.equal(world.last.query.get("poll"), "1");
  });

  test("does not follow a server that is away, full or refuses", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    for (let n = 0; n < 4; n++) {
      await waits(world, () => world.last.fails());
      await waits(world, () => world.last.refuses(503, "full"));
      await world.last.sends("retry: 10\n" + own("overload", { reason: "full" }));
      await waits(world, () => world.last.ends());
    }
    assert.ok(world.requests.length > 12);
    assert.ok(world.requests.every(({ query }) => !query.has("poll")));
  });

  test("a stream that holds between two short ones breaks the row", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    for (const lives of [0, 0, 2000, 0, 0]) {
      await world.last.connects("k3v9q2-1", { retry: 0 });
      await world.pass(lives);
      await world.last.ends();
      await world.pass(4000);
    }
    assert.ok(world.requests.every(({ query }) => !query.has("poll")));
  });

  test("lasts five minutes, and then a stream is tried", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await held(world);
    const began = Date.now();
    while (world.last.query.has("poll")) {
      await world.last.connects("k3v9q2-1");
      await world.pass(25_000);
      await world.last.ends();
      await world.pass(4000);
    }
    const lasted = Date.now() - began;
    assert.ok(lasted >= 295_000 && lasted <= 330_000, String(lasted));
    await world.last.connects("k3v9q2-1");
    assert.equal(stream.status.via, "stream");
  });

  test("lasts five minutes, also if it began anew in between", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    await held(world);
    const began = Date.now();
    for (let count = 0; world.last.query.has("poll"); count++) {
      await world.last.connects("k3v9q2-1");
      await world.pass(25_000);
      await (count % 4 == 3 ? world.last.breaks() : world.last.ends());
      await world.pass(4000);
    }
    const lasted = Date.now() - began;
    assert.ok(lasted >= 295_000 && lasted <= 330_000, String(lasted));
  });

  test("ends after five minutes, however badly it goes, and one bad stream is no reason to begin again", async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    await held(world);
    const began = Date.now();
    while (world.last.query.has("poll")) {
      assert.ok(Date.now() - began < 400_000, "a stream is tried");
      await world.pass(5000);
    }
    await world.last.opens();
    await world.pass(10_000);
    await world.pass(30_000);
    assert.equal(world.last.query.has("poll"), false);
  });

  test("asks again at once after an answer, and once a second at most", async (t) => {
    const world = new World(t);
    const stream = world.connect({ transport: "poll" });
    const { data } = record(stream);
    await settled();
    assert.equal(world.last.query.get("poll"), "1");
    await world.last.connects("k3v9q2-1");
    await world.pass(1000);
    await world.last.ends();
    await world.pass(1);
    assert.equal(world.requests.length, 2);
    for (let n = 2; n < 12; n++) {
      await world.last.connects(`k3v9q2-${n - 1}`, { text: event(`k3v9q2-${n}`, String(n)) });
      await world.last.ends();
      await world.pass(1000);
    }
    assert.deepEqual(data(), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert.equal(world.requests.length, 12);
  });

  test("may be silent as long as a stream", async (t) => {
    const world = new World(t);
    world.connect({ transport: "poll" });
    await settled();
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(1000);
    await world.pass(48_000);
    assert.equal(world.last.isAborted, false);
    await world.pass(3000);
    assert.equal(world.requests[1].isAborted, true);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
    assert.equal(world.requests.length, 3);
  });

  test("passes on what the server says of the stream, and ends with it", async (t) => {
    const world = new World(t);
    const stream = world.connect({ transport: "poll" });
    const told = [];
    for (const type of ["connected", "closing"]) stream.on(type, ({ data }) => told.push(data.reason ?? data.connection));
    await settled();
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(1000);
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "two\ndata: lines") + own("closing", { reason: "drain" }) });
    await world.last.ends();
    assert.deepEqual(told, ["0.1.0", "drain"], "it is opened once");
    assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "drain"]);
    await world.pass(3001);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-2");
  });

  test("backs off when a poll fails, is refused or is not let in", async (t) => {
    const world = new World(t);
    const stream = world.connect({ transport: "poll" });
    await settled();
    await world.last.fails();
    assert.equal(stream.status.state, "waiting");
    await world.pass(1000);
    await world.last.sends("retry: 6000\n" + own("overload", { reason: "full" }));
    await world.last.ends();
    assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "full"]);
    await world.pass(5500);
    assert.equal(world.requests.length, 2);
    await world.pass(1000);
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(1000);
    await world.last.refuses(503, "draining", { "retry-after": "9" });
    assert.deepEqual([stream.status.state, stream.status.reason], ["waiting", "draining"]);
    await world.pass(8500);
    assert.equal(world.requests.length, 4, "Retry-After counts between polls, too");
    await world.pass(501);
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(1000);
    await world.last.refuses(403, "forbidden");
    assert.deepEqual([stream.status.state, stream.status.reason], ["closed", "forbidden"]);
  });

  test("204 between two polls closes the stream", async (t) => {
    const world = new World(t);
    const stream = world.connect({ transport: "poll" });
    await settled();
    await world.last.connects("k3v9q2-1");
    await world.last.ends();
    await world.pass(1000);
    await world.last.refuses(204);
    await world.pass(3001);
    await world.last.refuses(204);
    assert.deepEqual([stream.status.state, stream.status.reason], ["closed", "disconnected"]);
  });

  test("transport: stream never polls", async (t) => {
    const world = new World(t);
    world.connect({ transport: "stream" });
    await settled();
    for (let n = 0; n < 6; n++) {
      await world.pass(60_000);
    }
    assert.ok(world.requests.length > 4);
    assert.ok(world.requests.every(({ query }) => !query.has("poll")));
  });
});

describe("a gap", () => {
  test("is held until the application has its state", async (t) => {
    const world = new World(t);
    const gaps = [];
    let done;
    const stream = world.connect({ onGap: (gap) => (gaps.push(gap), new Promise((resolve) => (done = resolve))) });
    const { messages } = record(stream);
    await settled();
    await world.last.connects("k3v9q2-1", { text: gap("k3v9q2-9") + event("k3v9q2-10", "10") });
    await world.last.sends(event("k3v9q2-11", "11"));
    assert.deepEqual(gaps, [{ rooms: ["a"], from: "", to: "k3v9q2-9", reason: "evicted" }]);
    assert.deepEqual(messages.map(({ type }) => type), ["gap"]);
    assert.equal(stream.status.cursor, "k3v9q2-1", "a page that is loaded again now must be told again");
    await world.pass(120_000);
    assert.equal(world.requests.length, 1, "what is not read is not silent");
    done();
    await settled();
    assert.deepEqual(messages.slice(1).map(({ data }) => data), [10, 11]);
    assert.equal(stream.status.cursor, "k3v9q2-11");
  });

  test("holds the bytes back as well: nothing is gathered", async (t) => {
    const world = new World(t);
    world.connect({ onGap: () => new Promise(() => {}) });
    await settled();
    await world.last.connects("k3v9q2-1", { text: gap("k3v9q2-9") });
    for (let n = 10; n < 50; n++) await world.last.sends(event(`k3v9q2-${n}`, "1"));
    assert.ok(world.last.body.desiredSize <= -38, "they wait in the network's queue");
  });

  test("that is not fetched is told of, and the stream goes on", async (t) => {
    const world = new World(t);
    const errors = [];
    const stream = world.connect({ onGap: async () => assert.fail("no state"), onError: ({ message }) => errors.push(message) });
    await settled();
    await world.last.connects("k3v9q2-1", { text: gap("k3v9q2-9") + event("k3v9q2-10", "10") });
    assert.deepEqual(errors, ["no state"]);
    assert.equal(stream.status.cursor, "k3v9q2-10");
  });

  test("comes again if the stream breaks before it is mended", async (t) => {
    const world = new World(t);
    const done = [];
    const stream = world.connect({ onGap: () => new Promise((resolve) => done.push(resolve)) });
    await settled();
    await world.last.connects("k3v9q2-1", { text: gap("k3v9q2-9") });
    stream.reconnect();
    await settled();
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-1");
    done[0]();
    await settled();
    assert.equal(stream.status.cursor, "k3v9q2-1", "the old answer is about the old stream");
    await world.last.connects("k3v9q2-1", { text: gap("k3v9q2-12") });
    done[1]();
    await settled();
    assert.equal(stream.status.cursor, "k3v9q2-12");
  });

  test("close does not wait for it", async (t) => {
    const world = new World(t);
    const stream = world.connect({ onGap: () => new Promise(() => {}) });
    await settled();
    await world.last.connects("k3v9q2-1", { text: gap("k3v9q2-9") });
    stream.close();
    assert.equal(stream.status.state, "closed");
    assert.equal(world.last.isAborted, true);
  });
});

describe("iterating", () => {
  test("gives what came since events() was called, and ends with the stream", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    const all = stream[Symbol.asyncIterator]();
    const prices = stream.events("price");
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") + event("k3v9q2-3", "2", { type: "price" }) });
    stream.close();
    const collect = async (iterator) => {
      const found = [];
      for await (const { data } of iterator) found.push(data);
      return found;
    };
    assert.deepEqual(await collect(all), [1, 2]);
    assert.deepEqual(await collect(prices), [2]);
    assert.deepEqual(await collect(stream.events()), [], "a closed stream has no more");
  });

  test("waits for what comes, also if it is asked twice", async (t) => {
    const world = new World(t);
    const iterator = world.connect().events();
    const both = Promise.all([iterator.next(), iterator.next()]);
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") });
    await world.last.sends(event("k3v9q2-3", "2"));
    assert.deepEqual((await both).map(({ value }) => value.data), [1, 2]);
  });

  test("a reader that is too slow gets a gap for what it missed", async (t) => {
    const world = new World(t);
    const iterator = world.connect().events("x", { max: 3 });
    await settled();
    const nine = [...Array(9).keys()].map((n) => event(`k3v9q2-${n + 11}`, String(n), { type: "x" }));
    await world.last.connects("k3v9q2-10", { text: nine.join("") });
    const given = [];
    for (let n = 0; n < 3; n++) given.push((await iterator.next()).value.data);
    const lost = { rooms: ["a"], inbox: true, all: true, from: "", to: "k3v9q2-17", reason: "slow" };
    assert.deepEqual(given, [lost, 7, 8]);
    await world.last.sends([...Array(5).keys()].map((n) => event(`k3v9q2-${n + 21}`, "1", { type: "x" })).join(""));
    const { value } = await iterator.next();
    assert.deepEqual([value.type, value.data.from, value.data.to], ["gap", "k3v9q2-19", "k3v9q2-24"]);
  });

  test("a gap of events without ids has empty ones, as its type says", async (t) => {
    const world = new World(t);
    const iterator = world.connect().events("presence", { max: 1 });
    await settled();
    await world.last.connects("k3v9q2-1", { text: own("presence", {}).repeat(2) });
    const { value } = await iterator.next();
    assert.deepEqual([value.type, value.data.from, value.data.to], ["gap", "", ""]);
  });

  test("the server's gaps are given, whatever was asked for", async (t) => {
    const world = new World(t);
    const iterator = world.connect().events("x");
    await settled();
    await world.last.connects("k3v9q2-1", { text: gap("k3v9q2-9") });
    assert.equal((await iterator.next()).value.type, "gap");
  });

  test("break and abort end it, and it collects no more", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    const ends = new AbortController();
    const aborted = stream.events(undefined, { signal: ends.signal });
    const never = stream.events(undefined, { signal: AbortSignal.abort() });
    const broken = stream.events();
    await settled();
    await world.last.connects("k3v9q2-1", { text: event("k3v9q2-2", "1") });
    for await (const { data } of broken) {
      assert.equal(data, 1);
      break;
    }
    ends.abort();
    await world.last.sends(event("k3v9q2-3", "2"));
    assert.deepEqual(await broken.next(), { value: undefined, done: true });
    assert.deepEqual(await never.next(), { value: undefined, done: true });
    assert.equal((await aborted.next()).value.data, 1, "what it had before");
    assert.deepEqual(await aborted.next(), { value: undefined, done: true });
  });
});

describe("presence", () => {
  test("a watcher that throws does not keep the news from the others", async (t) => {
    const world = new World(t);
    const told = t.mock.method(console, "error", () => {});
    const stream = world.connect({ presence: true });
    const here = presence(stream, "a");
    const totals = [];
    here.watch(() => assert.fail("mine"));
    const off = here.watch(({ total }) => totals.push(total));
    await settled();
    const news = (total) => `event: presence\nroom: a\ndata: {"type":"count","total":${total},"connections":1}\n\n`;
    await world.last.connects("k3v9q2-1", { text: news(1) + news(2) });
    off();
    await world.last.sends(news(3));
    assert.deepEqual(totals, [1, 2]);
    assert.equal(told.mock.callCount(), 3);
  });
});

describe("rooms and restarts", () => {
  test("join and leave ask again with the new rooms, from the same place, once", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.connects("k3v9q2-5");
    stream.join("b");
    stream.join("c", "b");
    stream.leave("a");
    await settled();
    assert.equal(world.requests.length, 2);
    assert.equal(world.requests[0].isAborted, true);
    assert.deepEqual(world.last.query.getAll("room"), ["b", "c"]);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-5");
    stream.join("b");
    stream.leave("z");
    await settled();
    assert.equal(world.requests.length, 2, "nothing changed");
  });

  test("what is altered at once is one attempt, and may be without a room between", async (t) => {
    const world = new World(t);
    let asked = 0;
    const stream = world.connect({ user: undefined, token: () => `${++asked}` });
    await settled();
    await world.last.connects("k3v9q2-5");
    const { states } = record(stream);
    stream.leave("a");
    for (const room of ["b", "c", "d"]) stream.join(room);
    await settled();
    assert.equal(asked, 2);
    assert.deepEqual(states.map(({ state }) => state), ["connecting"]);
    assert.deepEqual(world.last.query.getAll("room"), ["b", "c", "d"]);
    stream.join("e");
    stream.close();
    await settled();
    assert.equal(stream.status.state, "closed");
  });

  test("a listener that joins a room gets nothing twice", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    const { data } = record(stream);
    stream.onAny(({ data }) => data == 2 && stream.join("b"));
    await settled();
    await world.last.connects("k3v9q2-1", { text: [2, 3].map((n) => event(`k3v9q2-${n}`, String(n))).join("") });
    assert.equal(world.requests.length, 2);
    assert.equal(world.last.query.get("last_event_id"), "k3v9q2-2");
    assert.deepEqual(data(), [2], "what follows comes with the new stream");
  });

  test("join does not shorten a wait", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await world.last.refuses(503, "full", { "retry-after": "9" });
    stream.join("b");
    await world.pass(8500);
    assert.equal(world.requests.length, 1);
    await world.pass(1000);
    assert.deepEqual(world.last.query.getAll("room"), ["a", "b"]);
  });

  test("reconnect asks at once", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    for (let n = 0; n < 6; n++) {
      await world.last.fails();
      await world.pass(30_000);
    }
    await world.last.fails();
    const before = world.requests.length;
    stream.reconnect();
    await settled();
    assert.equal(world.requests.length, before + 1);
    await world.pass(9000);
    assert.equal(world.requests.length, before + 1, "the old wait is over");
  });

  test("a signal closes the stream", async (t) => {
    const world = new World(t);
    const ends = new AbortController();
    const stream = world.connect({ signal: ends.signal });
    await settled();
    ends.abort();
    assert.equal(stream.status.state, "closed");
    assert.equal(world.last.isAborted, true);
  });

  test("await using closes it", async (t) => {
    const world = new World(t);
    const stream = world.connect();
    await settled();
    await stream[Symbol.asyncDispose]();
    assert.equal(stream.status.state, "closed");
  });

  test("without a page or a navigator, as in Node, nothing is missing", async (t) => {
    const world = new World(t);
    for (const name of ["document", "navigator", "addEventListener"]) Object.defineProperty(globalThis, name, { value: undefined, configurable: true });
    const stream = world.connect();
    await settled();
    await world.last.connects("k3v9q2-5");
    await world.pass(52_000);
    assert.equal(world.requests.length, 2);
    stream.close();
  });
});
