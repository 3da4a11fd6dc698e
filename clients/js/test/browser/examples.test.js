// Promise: the examples with React and Vue are built, and show what comes, once, over reloads and restarts.

import assert from "node:assert/strict";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { publish } from "../../client.js";
import { Server, until } from "../server.js";
import { browser, skip } from "./browser.js";

const CLIENT = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLES = fileURLToPath(new URL("../../../../examples", import.meta.url));

for (const name of ["react", "vue"]) {
  const root = join(EXAMPLES, name);
  const vite = join(root, "node_modules/vite/dist/node/index.js");
  const isMissing = existsSync(vite) || process.env.CI == "true" ? false : `examples/${name} is not installed`;

  describe(`the example with ${name}`, { skip: skip || isMissing }, () => {
    const texts = (page) => page.$$eval("li", (all) => all.map((one) => one.firstChild.textContent.trim()));
    const notice = (text, user = "ann") => ({ user, event: "notice", data: { text } });

    /** Waits until the page shows these texts and so many as unread, on an open stream. */
    const shows = (page, wanted, unread) =>
      until(
        wanted.join(),
        async () => (await texts(page)).join() == wanted.join() && (await page.$eval("header", (one) => one.innerText)).includes(`${unread} unread`),
        () => page.$eval("#app", (one) => one.innerText),
      );
    const isOpen = (page) => until("an open stream", () => page.$eval(".state", (one) => one.textContent == "open").catch(() => false));

    /** What the page needs, in development or as it is built. */
    const open = async (t, kind) => {
      // The copy that npm has made may be older.
      for (const file of ["client.js", "client"]) cpSync(join(CLIENT, file), join(root, "node_modules/tidegate", file), { recursive: true });
      const server = await Server.start(t, { HISTORY_EVENTS: "100" });
      process.env.TIDEGATE_URL = new URL(server.url).origin;
      const tool = await import(pathToFileURL(vite).href);
      const outDir = `node_modules/.test-${process.pid}`;
      const how = { root, logLevel: "error", server: { port: 0, ws: false }, preview: { port: 0 }, build: { outDir } };
      if (kind == "preview") await tool.build(how);
      const served = kind == "preview" ? await tool.preview(how) : await (await tool.createServer(how)).listen();
      t.after(() => served.close());
      const page = await (await browser(t)).newPage();
      const faults = [];
      page.on("pageerror", (error) => faults.push(String(error)));
      page.on("console", (message) => {
        if (/error|warn/.test(message.type()) && !/Failed to load resource/.test(message.text())) faults.push(message.text());
      });
      const { port } = served.httpServer.address();
      await page.goto(`http://localhost:${port}/`);
      await isOpen(page);
      return { server, page, faults };
    };

    test("as it is built", async (t) => {
      const { server, page, faults } = await open(t, "preview");
      assert.match(await page.$eval("#app", (one) => one.innerText), /Nothing yet/);
      await publish(server.url, [notice("one"), notice("not for ann", "bob"), { all: true, event: "notice", data: { text: "two" } }]);
      await shows(page, ["two", "one"], 2);
      await page.click("li button");
      await shows(page, ["two", "one"], 1);
      await page.click("header button");
      await shows(page, ["two", "one"], 0);

      await page.reload();
      await isOpen(page);
      await shows(page, ["two", "one"], 2);

      await server.kill();
      await until("a page that waits", () => page.$eval(".state", (one) => one.textContent != "open"));
      await server.again();
      await isOpen(page);
      // Another life of the server: what came in between may be missing, and the page says so.
      await until("what is missing", () => page.$eval("#app", (one) => /Some older notifications are missing/.test(one.innerText)));
      await publish(server.url, notice("three"));
      await shows(page, ["three", "two", "one"], 3);
      assert.deepEqual(faults, []);
    });

    // In development React mounts each component twice.
    test("in development, with one stream", async (t) => {
      const { server, page, faults } = await open(t, "dev");
      const answer = await publish(server.url, notice("one"));
      assert.equal(answer.subscribers, 1);
      await shows(page, ["one"], 1);
      assert.deepEqual(faults, []);
    });
  });
}
