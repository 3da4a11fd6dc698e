// Promise: 200 clients come through a server's worst hour, and each of them has every event once and in order, or was told
// by a gap that some are missing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, publish } from "../../client.js";
import { Server, skip, until } from "../server.js";

const CLIENTS = 200;

test("200 clients are exact over kills, drains and a full server", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "200ms", DRAIN: "1s" });
  const clients = Array.from({ length: CLIENTS }, (_, index) => {
    const stream = connect({ url: server.url, rooms: ["a", `room-${index % 10}`], user: `u${index}`, backoff: { baseMs: 50, capMs: 1000 } });
    t.after(stream.close);
    /** Numbers and gaps in the order in which they came. @type {(number | string)[]} */
    const got = [];
    const reasons = new Set();
    stream.on("n", ({ data }) => got.push(data));
    stream.on("gap", ({ data }) => got.push(data.reason));
    stream.watch(({ reason }) => reason && reasons.add(reason));
    return { stream, got, reasons };
  });
  const opened = () => clients.filter(({ stream }) => stream.status.state == "open").length;
  const all = () => until("all streams", () => opened() == CLIENTS, opened);

  let n = 0;
  const some = async (count) => {
    for (const end = n + count; n < end; n++) await publish(server.url, { room: "a", event: "n", data: n });
  };
  const everywhere = (wanted) => until(`event ${wanted} everywhere`, () => clients.every(({ got }) => got.at(-1) == wanted), () => clients.map(({ got }) => got.at(-1)));

  await all();
  await some(100);
  await everywhere(99);

  await server.kill();
  await server.again();
  await some(30);
  await all();
  await some(70);
  await everywhere(199);

  // Three quarters of them fit.
  await server.drain();
  await server.again({ MAX_CONNECTIONS: "150" });
  await some(50);
  await until("a full server", () => opened() == 150 && clients.some(({ reasons }) => reasons.has("full")), opened);
  await some(50);

  await server.drain();
  await server.again({ MAX_CONNECTIONS: "0" });
  await some(50);
  await all();
  await some(50);
  await everywhere(n - 1);

  for (const [index, { got, reasons }] of clients.entries()) {
    assert.equal(got[0], 0, `client ${index} has the first`);
    for (let at = 1; at < got.length; at++) {
      const [before, here] = [got[at - 1], got[at]];
      if (typeof here == "string" || typeof before == "string") continue;
      assert.equal(here, before + 1, `client ${index} at ${at}: ${got}`);
    }
    const numbers = got.filter((one) => typeof one == "number");
    assert.deepEqual(numbers, [...new Set(numbers)].sort((one, other) => one - other), `client ${index}`);
    assert.ok(reasons.has("drain"), `client ${index} was told of the drain: ${[...reasons]}`);
  }
  t.diagnostic(`${clients.reduce((sum, { got }) => sum + got.length, 0)} events and gaps`);
});
