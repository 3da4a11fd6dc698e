// Promise: the client's core is exact in Firefox as well, where an EventSource gives up after some failures.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { publish } from "../../client.js";
import { Network, Server, until } from "../server.js";
import { Tab, firefox, site, skipFirefox as skip } from "./browser.js";

/** More than is published while a stream is away. */
const LONG = { HISTORY_EVENTS: "1000000", HISTORY_BYTES: "100MiB" };
const FAST = { backoff: { baseMs: 20, capMs: 100 } };
const numbers = (from, to) => [...Array(to - from).keys()].map((n) => n + from);

describe("a stream in Firefox", { skip }, () => {
  const ends = [];
  const context = { after: (end) => ends.push(end) };
  let browser, origin, server;

  before(async () => {
    origin = await site(context);
    browser = await firefox(context);
  });
  after(async () => {
    for (const end of ends.reverse()) await end();
  });

  const some = async (from, to) => {
    for (let n = from; n < to; n++) await publish(server.url, { room: "a", event: "n", data: n });
  };

  test("is exact over 50 cuts, a server that is away, and a restart", async (t) => {
    server = await Server.start(t, { RETRY: "100ms", CORS_ORIGINS: origin, ...LONG });
    const network = await Network.before(t, server);
    const tab = await Tab.open(browser, origin, { url: network.url, user: "me", rooms: "a", transport: "stream", ...FAST });
    t.after(() => tab.page.close());
    network.plan = Array.from({ length: 50 }, (_, n) => 150 + ((n * 397) % 900));
    network.cut();
    let n = 0;
    await until("all cuts", async () => {
      await some(n, (n += 5));
      return network.plan.length == 0;
    });
    network.isDown = true;
    network.cut();
    await until("waiting", async () => (await tab.status()).attempt > 2, () => tab.told());
    await some(n, (n += 5));
    network.isDown = false;
    await tab.has(n - 1);
    assert.deepEqual(await tab.got(), numbers(0, n));
    await server.kill();
    await server.again();
    await some(n, n + 1);
    await until("a gap", async () => (await tab.got()).includes("restart"), () => tab.told());
  });

  test("is one for three tabs, also when the one that leads is closed", async (t) => {
    server = await Server.start(t, { RETRY: "100ms", CORS_ORIGINS: origin });
    const tabs = [];
    for (let n = 0; n < 3; n++) tabs.push(await Tab.open(browser, origin, { url: server.url, user: "me", rooms: "a", tabs: true, ...FAST }));
    const streams = async () => (await (await fetch(`${server.url}/rooms/a`)).json()).connections;
    const vias = () => Promise.all(tabs.map(async (tab) => (await tab.status()).via));
    const shared = () => until("one stream", async () => (await streams()) == 1 && (await vias()).filter((via) => via == "stream").length == 1, async () => [await streams(), await vias()]);
    await shared();
    await some(0, 10);
    for (const tab of tabs) await tab.has(9);
    const [leader] = tabs.splice((await vias()).indexOf("stream"), 1);
    await leader.page.close();
    await some(10, 20);
    for (const tab of tabs) await tab.has(19);
    for (const tab of tabs) assert.deepEqual(await tab.got(), numbers(0, 20));
    await shared();
    for (const tab of tabs) await tab.page.close();
  });
});
