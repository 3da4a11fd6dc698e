// Promise: in a real browser a stream lives through what browsers do to pages and to networks.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { after, before, describe, test } from "node:test";

import { publish } from "../../client.js";
import { Network, Server, until } from "../server.js";
import { Tab, browser, site, skip } from "./browser.js";

/** More than is published while a stream is away. */
const LONG = { HISTORY_EVENTS: "1000000", HISTORY_BYTES: "100MiB" };
const FAST = { backoff: { baseMs: 50, capMs: 500 } };
const numbers = (from, to) => [...Array(to - from).keys()].map((n) => n + from);

describe("a stream in Chromium", { skip }, () => {
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

  const start = async (t, options = {}) => {
    server = await Server.start(t, { RETRY: "100ms", CORS_ORIGINS: origin, ...LONG });
    const network = await Network.before(t, server);
    const tab = await Tab.open(chromium, origin, { url: network.url, user: "me", rooms: "a", ...FAST, ...options });
    t.after(() => tab.page.close());
    return [tab, network];
  };
  const some = async (from, to) => {
    for (let n = from; n < to; n++) await publish(server.url, { room: "a", event: "n", data: n });
  };

  test("is exact over 100 cuts", async (t) => {
    const [tab, network] = await start(t, { transport: "stream", backoff: { baseMs: 20, capMs: 20 } });
    network.plan = Array.from({ length: 100 }, (_, n) => 150 + ((n * 397) % 900));
    network.cut();
    let n = 0;
    await until("all cuts", async () => {
      await some(n, (n += 5));
      return network.plan.length == 0;
    });
    await some(n, (n += 5));
    await tab.has(n - 1);
    assert.deepEqual(await tab.got(), numbers(0, n));
  });

  test("is exact over a network that goes and comes, and knows that it is offline", async (t) => {
    const [tab, network] = await start(t);
    await some(0, 5);
    await tab.has(4);
    await tab.page.setOfflineMode(true);
    network.isDown = true;
    network.cut();
    await until("being offline", async () => (await tab.status()).state == "offline", () => tab.told());
    await some(5, 10);
    network.isDown = false;
    await tab.page.setOfflineMode(false);
    await tab.has(9);
    assert.deepEqual(await tab.got(), numbers(0, 10));
  });

  test("does not keep its page out of the cache for going back, and goes on there", async (t) => {
    const [tab] = await start(t);
    await some(0, 5);
    await tab.has(4);
    await tab.page.goto(`${origin}/other`);
    await until("the end of the request", async () => (await (await fetch(`${server.url}/rooms/a`)).json()).connections == 0);
    await some(5, 10);
    await tab.page.goBack();
    assert.equal(await tab.page.evaluate(() => window.wasKept), true, "the page itself came back");
    await tab.has(9);
    assert.deepEqual(await tab.got(), numbers(0, 10));
  });

  test("goes on after a reload where the page was", async (t) => {
    const [tab] = await start(t, { keep: true });
    await some(0, 5);
    await tab.has(4);
    await tab.page.reload();
    await some(5, 10);
    await tab.listen();
    await tab.has(9);
    assert.deepEqual(await tab.got(), numbers(0, 10));
  });

  test("polls where a proxy holds streams back", async (t) => {
    server = await Server.start(t, { RETRY: "100ms", CORS_ORIGINS: origin });
    // Passes an answer on when it has ended.
    const proxy = createServer((asked, answer) => {
      const { method, url, headers } = asked;
      const passed = request({ host: "127.0.0.1", port: server.port, method, path: url, headers }, async (got) => {
        const pieces = [];
        got.on("data", (piece) => pieces.push(piece)).on("error", () => {});
        await once(got, "end").catch(() => {});
        answer.writeHead(got.statusCode, got.headers).end(Buffer.concat(pieces));
      });
      passed.on("error", () => answer.destroy());
      answer.on("close", () => passed.destroy());
      asked.pipe(passed);
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    t.after(() => {
      proxy.closeAllConnections();
      proxy.close();
    });
    const url = `http://127.0.0.1:${proxy.address().port}/api/v1/sse`;
    const tab = await Tab.open(chromium, origin, { url, user: "me", rooms: "a", connectMs: 500, ...FAST });
    t.after(() => tab.page.close());
    assert.equal((await tab.status()).via, "poll");
    await some(0, 20);
    await tab.has(19);
    assert.deepEqual(await tab.got(), numbers(0, 20));
  });
});
