// Promise: a page knows who is in a room, with what they show.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { connect } from "../../client.js";
import { hide, presence, show } from "../../client/presence.js";
import { Server, skip, until } from "../server.js";

test("members come, show something, and go", { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-client-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "tidegate.toml");
  writeFileSync(file, '[[room]]\nmatch = "a"\npresence = "members"\npresence_grace = "0"\npresence_interval = "100ms"\npresence_members_max = 3\n');
  const server = await Server.start(t, { RETRY: "100ms" }, ["--config", file]);
  const listen = (user) => {
    const stream = connect({ url: server.url, rooms: ["a", "b"], user, presence: true });
    t.after(stream.close);
    return stream;
  };
  const here = presence(listen("me"), "a");
  const seen = [];
  const off = here.watch(({ total }) => seen.push(total));
  const are = (...users) => until(users.join(), () => String([...here.current.members.keys()].sort()) == String(users), () => here.current);
  await are("me");
  const you = listen("you");
  await are("me", "you");
  await show(server.url, "a", { status: "away" }, { headers: { "tidegate-user": "you" } });
  await until("what you show", () => here.current.members.get("you")?.status == "away", () => here.current);
  await hide(server.url, "a", { headers: { "tidegate-user": "you" } });
  await are("me");
  you.close();
  const others = ["x", "y", "z"].map(listen);
  await until("a count", () => here.current.isNamed === false && here.current.total == 4, () => here.current);
  assert.equal(here.current.members.size, 0, "the names are no longer all");
  for (const stream of others) stream.close();
  await are("me");
  assert.ok(seen.includes(2) && seen.includes(4), String(seen));
  off();
  here.close();
  const before = seen.length;
  const last = listen("last");
  const there = presence(last, "a");
  await until("the last", () => there.current.total == 2);
  assert.equal(seen.length, before);
  await assert.rejects(show(server.url, "b", 1, { headers: { "tidegate-user": "me" } }), { code: "presence_off" });
});
