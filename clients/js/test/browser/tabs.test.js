// Promise: the tabs of one user share one stream, each with its own rooms and its own place, whatever becomes of the tab that
// holds it.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { publish } from "../../client.js";
import { Server, until } from "../server.js";
import { Tab, browser, site, skip } from "./browser.js";

const FAST = { backoff: { baseMs: 50, capMs: 500 } };

describe("tabs", { skip }, () => {
  const ends = [];
  const context = { after: (end) => ends.push(end) };
  let chromium, origin, server;

  before(async () => {
    origin = await site(context);
    chromium = await browser(context);
  });
  after(async () => {
    for (const end of ends.reverse()) await end();
  });

  /** A server, and `count` tabs that share a stream. Every third tab is in another room, too. */
  const start = async (t, count, more = {}) => {
    server = await Server.start(t, { RETRY: "100ms", CORS_ORIGINS: origin, ...more.settings });
    const tabs = [];
    t.after(() => Promise.all(tabs.map((tab) => tab.page.close().catch(() => {}))));
    for (let index = 0; index < count; index++) {
      const rooms = index % 3 ? ["a"] : ["a", "b"];
      tabs.push(await Tab.open(chromium, origin, { url: server.url, user: "me", rooms, tabs: true, ...FAST, ...more.options }));
    }
    return tabs;
  };

  /** Streams in a room. */
  const streams = async (room = "a") => (await (await fetch(`${server.url}/rooms/${room}`)).json()).connections;
  const isShared = async (tabs) => {
    const vias = await Promise.all(tabs.map(async (tab) => (await tab.status()).via));
    return vias.filter((via) => via == "stream").length == 1 && (await streams()) == 1;
  };
  const shared = (tabs) => until("one stream", () => isShared(tabs), async () => [await streams(), ...(await Promise.all(tabs.map((tab) => tab.told().catch(String))))]);

  const some = async (from, to, room = "a") => {
    for (let n = from; n < to; n++) await publish(server.url, { room, event: "n", data: n });
  };
  const numbers = (from, to) => [...Array(to - from).keys()].map((n) => n + from);

  /** The tab that holds the stream. */
  const leader = async (tabs) => {
    const statuses = await Promise.all(tabs.map((tab) => tab.status()));
    const index = statuses.findIndex(({ via }) => via == "stream");
    assert.ok(index >= 0, JSON.stringify(statuses));
    return tabs[index];
  };

  test("ten tabs have one stream, and each gets what is for it, once", async (t) => {
    const tabs = await start(t, 10);
    await shared(tabs);
    await some(0, 20);
    await some(100, 110, "b");
    await publish(server.url, { user: "me", event: "n", data: "inbox" });
    await some(20, 40);
    for (const [index, tab] of tabs.entries()) {
      await tab.has(39);
      const b = index % 3 ? [] : numbers(100, 110);
      assert.deepEqual(await tab.got(), [...numbers(0, 20), ...b, "inbox", ...numbers(20, 40)], `tab ${index}`);
      const { state, user } = await tab.status();
      assert.deepEqual({ state, user }, { state: "open", user: "me" });
      assert.deepEqual(tab.errors, []);
    }
    const vias = await Promise.all(tabs.map(async (tab) => (await tab.status()).via));
    assert.deepEqual(vias.sort(), ["stream", ...Array(9).fill("tab")]);
    assert.equal(await streams(), 1);
    assert.equal(await streams("b"), 1);
  });

  test("ten tabs that are opened at once over HTTP/1.1 do not block each other", async (t) => {
    server = await Server.start(t, { RETRY: "100ms", CORS_ORIGINS: origin });
    const options = { url: server.url, user: "me", rooms: "a", tabs: true, ...FAST };
    const tabs = await Promise.all(Array.from({ length: 10 }, () => Tab.open(chromium, origin, options)));
    t.after(() => Promise.all(tabs.map((tab) => tab.page.close())));
    await shared(tabs);
    await some(0, 10);
    for (const tab of tabs) await tab.has(9);
    for (const tab of tabs) assert.deepEqual(await tab.got(), numbers(0, 10));
  });

  for (const [name, end] of [
    ["closed", (tab) => tab.page.close()],
    ["closed by close()", (tab) => tab.page.evaluate(() => stream.close())],
    ["killed", (tab) => tab.crash()],
    ["frozen by the browser", (tab) => tab.freeze()],
    ["navigated away", (tab) => tab.page.goto("about:blank")],
  ]) {
    test(`a leader that is ${name} leaves no hole`, async (t) => {
      const tabs = await start(t, 4);
      await shared(tabs);
      await some(0, 10);
      for (const tab of tabs) await tab.has(9);
      const gone = await leader(tabs);
      const [publishing] = [some(10, 60)];
      await end(gone);
      await publishing;
      const left = tabs.filter((tab) => tab != gone);
      for (const tab of left) await tab.has(59);
      for (const tab of left) assert.deepEqual(await tab.got(), numbers(0, 60));
      await shared(left);
      assert.ok(await leader(left));
    });
  }

  test("a leader that does not answer loses its place, and comes back whole", async (t) => {
    const tabs = await start(t, 3);
    await shared(tabs);
    await some(0, 10);
    for (const tab of tabs) await tab.has(9);
    const stuck = await leader(tabs);
    stuck.block(12_000);
    await some(10, 20);
    // A new tab asks, and is not answered.
    const late = await Tab.open(chromium, origin, { url: server.url, user: "me", rooms: "a", tabs: true, ...FAST });
    t.after(() => late.page.close());
    for (const tab of tabs.filter((tab) => tab != stuck)) {
      await tab.has(19);
      assert.deepEqual(await tab.got(), numbers(0, 20));
    }
    await some(20, 30);
    await late.has(29);
    await stuck.has(29);
    assert.deepEqual(await stuck.got(), numbers(0, 30));
    await shared([...tabs, late]);
  });

  test("a tab that was frozen has what it missed, when it is seen again", async (t) => {
    const tabs = await start(t, 3);
    await shared(tabs);
    await some(0, 10);
    for (const tab of tabs) await tab.has(9);
    const holder = await leader(tabs);
    const follower = tabs.find((tab) => tab != holder);
    await follower.freeze("frozen");
    await some(10, 30);
    await follower.freeze("active");
    for (const tab of tabs) await tab.has(29);
    assert.deepEqual(await follower.got(), numbers(0, 30));
    await shared(tabs);
  });

  test("a reload goes on where the page was", async (t) => {
    const tabs = await start(t, 3, { options: { keep: true } });
    await shared(tabs);
    await some(0, 10);
    for (const tab of tabs) await tab.has(9);
    for (const [index, tab] of tabs.entries()) {
      const from = 10 + 10 * index;
      await tab.page.reload();
      await some(from, from + 10);
      await tab.listen();
      await tab.has(from + 9);
    }
    for (const tab of tabs) await tab.has(39);
    for (const tab of tabs) assert.deepEqual(await tab.got(), numbers(0, 40));
    await shared(tabs);
  });

  test("a restart of the server is told to all tabs, and they share again", async (t) => {
    const tabs = await start(t, 5);
    await shared(tabs);
    await some(0, 10);
    for (const tab of tabs) await tab.has(9);
    await server.kill();
    await server.again();
    await some(10, 20);
    await until("gaps", async () => (await Promise.all(tabs.map((tab) => tab.got()))).every((got) => got.includes("restart")), () => Promise.all(tabs.map((tab) => tab.told())));
    await shared(tabs);
    await some(20, 30);
    for (const tab of tabs) {
      await tab.has(29);
      const got = await tab.got();
      assert.deepEqual(got.slice(-10), numbers(20, 30));
      const after = got.filter((one) => typeof one == "number");
      assert.equal(new Set(after).size, after.length, String(got));
    }
  });

  test("tabs of two users do not share", async (t) => {
    const tabs = await start(t, 2);
    const other = await Tab.open(chromium, origin, { url: server.url, user: "you", rooms: "a", tabs: true, ...FAST });
    t.after(() => other.page.close());
    await until("two streams", async () => (await streams()) == 2, streams);
    await publish(server.url, { user: "me", event: "n", data: "mine" });
    await publish(server.url, { user: "you", event: "n", data: "yours" });
    for (const tab of tabs) await tab.has("mine");
    await other.has("yours");
    assert.deepEqual(await other.got(), ["yours"]);
    assert.deepEqual(await tabs[0].got(), ["mine"]);
  });

  test("a newcomer begins with history, and goes over to the shared stream", async (t) => {
    const tabs = await start(t, 2);
    await shared(tabs);
    await some(0, 10);
    const late = await Tab.open(chromium, origin, { url: server.url, user: "me", rooms: ["a", "c"], history: 4, tabs: true, ...FAST });
    t.after(() => late.page.close());
    await late.has(9);
    await shared([...tabs, late]);
    await some(10, 20);
    await some(50, 51, "c");
    await late.has(50);
    assert.deepEqual(await late.got(), [...numbers(6, 20), 50]);
    for (const tab of tabs) assert.deepEqual(await tab.got(), numbers(0, 20));
    await late.page.evaluate(() => stream.join("d"));
    await late.open();
    await some(60, 61, "d");
    await late.has(60);
    await shared([...tabs, late]);
  });

  test("a room that one tab may not read is that tab's own", async (t) => {
    const tabs = await start(t, 2, { settings: {} });
    await shared(tabs);
    const bad = await Tab.open(chromium, origin, { url: server.url, user: "me", rooms: ["a", "x".repeat(200)], tabs: true, ...FAST });
    t.after(() => bad.page.close());
    await until("an end", async () => (await bad.status()).state == "closed", () => bad.status());
    assert.equal((await bad.status()).reason, "room_invalid");
    await some(0, 10);
    for (const tab of tabs) await tab.has(9);
    await shared(tabs);
  });
});
