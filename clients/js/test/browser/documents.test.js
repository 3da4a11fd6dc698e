// Promise: what the README and docs/client.md show works as it stands.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { build } from "esbuild";

import * as client from "../../client.js";
import { Server, until } from "../server.js";
import { browser, site, skip } from "./browser.js";

const root = fileURLToPath(new URL("../../../..", import.meta.url));
const README = readFileSync(join(root, "clients/js/README.md"), "utf8");
const GUIDE = readFileSync(join(root, "docs/client.md"), "utf8");

/** Blocks of one language. */
const blocks = (text, language) => [...text.matchAll(/^```(\w+)\n([^]*?)^```/gm)].filter(([, found]) => found == language).map(([, , block]) => block);

/** The block of `js` that contains `mark`, as a function of what it uses. */
function snippet(mark, url) {
  const found = blocks(README, "js").filter((block) => block.includes(mark));
  assert.equal(found.length, 1, mark);
  const body = found[0]
    .replace(/^import \{ (.*) \} from "tidegate(.*)";$/gm, (_, names, part) => `const { ${names} } = await load(${JSON.stringify(part)});`)
    .replaceAll('"/api/v1/sse"', JSON.stringify(url))
    .replaceAll("connect({", `connect({ url: ${JSON.stringify(url)},`);
  return (names) => {
    const load = (part) => (part ? import(pathToFileURL(join(root, `clients/js/client${part}.js`)).href) : client);
    const all = { load, ...names };
    const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
    return new AsyncFunction(...Object.keys(all), `${body}; return typeof stream == "undefined" ? undefined : stream;`)(...Object.values(all));
  };
}

describe("documents", { skip }, () => {
  test("every block is run", () => {
    assert.equal(blocks(README, "js").length, 7);
    assert.equal(blocks(README, "jsx").length, 1);
    assert.equal(blocks(README, "html").length + blocks(GUIDE, "html").length, 2);
    assert.equal([...GUIDE.matchAll(/^```\w+$/gm)].length, 1);
  });

  test("listening, and taking events in turns", async (t) => {
    const server = await Server.start(t);
    const seen = [];
    const names = { reloadState: () => seen.push("state"), show: (room, data) => seen.push([room, data]), showState: (state) => seen.push(state) };
    const stream = await snippet("stream.watch", server.url)(names);
    t.after(stream.close);
    await until("a stream", () => stream.status.state == "open");
    const drawn = [];
    const turns = snippet("for await (const { type, data }", server.url)({ stream, reloadState: () => {}, draw: (data) => drawn.push(data) });
    await client.publish(server.url, [{ room: "prices", event: "price", data: 1 }, { room: "lobby", event: "price", data: 2 }]);
    await until("both", () => drawn.length == 2);
    stream.close();
    await turns;
    assert.deepEqual(seen, ["connecting", "open", ["prices", 1], "closed"]);
    assert.deepEqual(drawn, [1, 2]);
  });

  test("a token, publishing, and who is there", async (t) => {
    const server = await Server.start(t);
    const asked = [];
    const fetch = (url) => (asked.push(url), Promise.resolve(new Response("token")));
    const withToken = await snippet("token: async", server.url)({ ...client, fetch });
    t.after(withToken.close);
    await until("the provider", () => asked.length > 0);
    assert.deepEqual(asked, ["/session/token?why=connect"]);
    await snippet("randomUUID", server.url)({});
    const withPeople = await snippet("people.watch", server.url)({ list: () => {} });
    t.after(withPeople.close);
    await until("a stream", () => withPeople.status.state == "open");
  });

  test("an answer", async (t) => {
    const server = await Server.start(t);
    let text = "";
    const reading = snippet("readStream", server.url)({ write: (piece) => (text += piece) });
    for (const event of [{ event: "token", data: "hel" }, { event: "token", data: "lo" }, { event: "done", data: true }]) {
      await client.publish(server.url, { room: "answer-1", ...event });
    }
    await reading;
    assert.equal(text, "hello");
  });

  test("the hooks are written as their frameworks want it", async () => {
    const [jsx] = blocks(README, "jsx");
    const [vue] = blocks(README, "js").filter((block) => block.includes("tidegate/vue"));
    for (const [code, loader] of [[`import { useState } from "react";\n${jsx}\nexport { Prices };`, "jsx"], [`import { ref } from "vue";\nconst props = { room: "a" }, price = ref();\n${vue}`, "js"]]) {
      const { errors } = await build({
        stdin: { contents: code, loader, resolveDir: join(root, "clients/js") },
        // The package by its own name.
        packages: "bundle",
        bundle: true,
        write: false,
        format: "esm",
        jsx: "automatic",
        logLevel: "silent",
      });
      assert.deepEqual(errors, []);
    }
  });

  describe("pages", () => {
    const ends = [];
    const context = { after: (end) => ends.push(end) };
    let chromium;
    before(async () => void (chromium = await browser(context)));
    after(async () => {
      for (const end of ends.reverse()) await end();
    });

    for (const [name, html, wanted] of [["README.md", blocks(README, "html")[0], "hi"], ["docs/client.md", blocks(GUIDE, "html")[0], "hello"]]) {
      test(`the page of ${name} shows what comes`, async (t) => {
        const server = await Server.start(t);
        const origin = await site(t, { html, server });
        const page = await chromium.newPage();
        t.after(() => page.close());
        const errors = [];
        page.on("pageerror", (error) => errors.push(String(error)));
        await page.goto(`${origin}/`);
        await until("a stream", async () => (await (await fetch(`${server.url}/rooms/lobby`)).json()).connections == 1, () => errors);
        await client.publish(server.url, { room: "lobby", data: "hi" });
        await until(wanted, () => page.$eval("#lines", (lines) => lines.textContent).then((text) => text == wanted), () => errors);
      });
    }
  });
});
