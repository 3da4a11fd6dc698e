// Promise: a token that ends does not end the stream, if there is a next one; one that is refused ends it.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";

import { connect, publish } from "../../client.js";
import { Server, skip, until } from "../server.js";

const SECRET = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
const KEYS = `HS256:base64:${SECRET}`;

/** A token of `me` that ends in `seconds`. */
function token(seconds, permissions = ["sse:read", "sse:publish"]) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "me", iat: now, exp: now + seconds, permissions })}`;
  return `${text}.${createHmac("sha256", Buffer.from(SECRET, "base64url")).update(text).digest("base64url")}`;
}

test("a token that ends soon is replaced by refresh, and the stream stays", { skip }, async (t) => {
  const server = await Server.start(t, { TOKEN_KEYS: KEYS, TOKEN_LEEWAY: "0s" });
  const asked = [];
  // Half a minute before its end a stream is told; this one is told at once.
  const stream = connect({ url: server.url, rooms: "a", token: (why) => (asked.push(why), token(why == "expiring" ? 3600 : 2)) });
  t.after(stream.close);
  const reasons = [];
  const got = [];
  stream.watch(({ reason }) => reason && reasons.push(reason));
  stream.onAny(({ data }) => got.push(data));
  await until("an open stream", () => stream.status.state == "open", () => stream.status);
  const { connection } = stream.status;
  // Past the end of the first token: a stream that has such a token, and no other, ends with it.
  const other = connect({ url: server.url, rooms: "a", token: token(2) });
  t.after(other.close);
  await until("the end of a token", () => other.status.state == "closed", () => other.status);
  await publish(server.url, { room: "a", data: 1 }, { token: token(3600) });
  await until("the event", () => got.length == 1, () => stream.status);
  assert.deepEqual(asked, ["connect", "expiring"]);
  assert.deepEqual(reasons, []);
  const { state, user, connection: now } = stream.status;
  assert.deepEqual([state, user, now], ["open", "me", connection]);
});

test("without a refresh the stream ends with its token, and comes back with the next, exactly", { skip }, async (t) => {
  const server = await Server.start(t, { TOKEN_KEYS: KEYS, TOKEN_LEEWAY: "0s", RETRY: "100ms", PUBLISH_RATE_PER_USER: "off" });
  const asked = [];
  const provider = (why) => {
    asked.push(why);
    if (why == "expiring") throw Error("not now");
    return token(asked.length > 1 ? 3600 : 2);
  };
  const reasons = [];
  const stream = connect({ url: server.url, rooms: "a", token: provider, onError: () => {} });
  t.after(stream.close);
  const got = [];
  stream.onAny(({ data }) => got.push(data));
  stream.watch(({ reason }) => reason && reasons.push(reason));
  let n = 0;
  // Node may send a request on the connection of a stream that has just ended, and have no answer. With a key it is safe to
  // send it again.
  const say = async () => {
    const how = { token: token(3600), key: `n${n}` };
    const event = { room: "a", data: n++ };
    await publish(server.url, event, how).catch(() => publish(server.url, event, how));
  };
  await until("an open stream", () => stream.status.state == "open", () => stream.status);
  await until("the end of the token", async () => {
    await say();
    return reasons.includes("expired");
  }, () => reasons);
  await say();
  await until("all", () => got.length >= n, () => [got, n]);
  assert.deepEqual(got, [...Array(n).keys()]);
  assert.deepEqual(asked, ["connect", "expiring", "connect"]);
});

test("a refused token is asked for once more, and then the stream is closed", { skip }, async (t) => {
  const server = await Server.start(t, { TOKEN_KEYS: KEYS });
  const asked = [];
  const good = connect({ url: server.url, rooms: "a", token: (why) => (asked.push(why), why == "refused" ? token(3600) : token(-60)) });
  t.after(good.close);
  await until("an open stream", () => good.status.state == "open", () => good.status);
  assert.deepEqual(asked, ["connect", "refused"]);
  const bad = connect({ url: server.url, rooms: "a", token: () => token(-60) });
  await until("the end", () => bad.status.state == "closed", () => bad.status);
  assert.equal(bad.status.reason, "unauthorized");
  const other = connect({ url: server.url, rooms: "a", token: token(3600, ["sse:read:b"]) });
  await until("the end", () => other.status.state == "closed", () => other.status);
  assert.equal(other.status.reason, "forbidden");
});

test("a user who is sent away stays away", { skip }, async (t) => {
  const server = await Server.start(t, { RETRY: "100ms" });
  const stream = connect({ url: server.url, rooms: "a", user: "me" });
  t.after(stream.close);
  await until("an open stream", () => stream.status.state == "open");
  await fetch(`${server.url}/disconnect/a/me?stay_away=60`, { method: "POST" });
  await until("the end", () => stream.status.state == "closed", () => stream.status);
  assert.equal(stream.status.reason, "disconnected");
});
