// Promise: whoever looks at a page sees each state of its stream. The page is the one that the server has at `/`.
//
// With PICTURES, a folder, it also draws them as one film: `PICTURES=../../docs/plots node --test test/browser/states.test.js`.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";

import { connect, publish } from "../../client.js";
import { PROGRAM, Server, until } from "../server.js";
import { browser, skip } from "./browser.js";

const TOKEN_KEY = "HS256:base64:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
const SIZE = { width: 760, height: 132 };

describe("the page at the root", { skip }, () => {
  test("shows each state", async (t) => {
    const chromium = await browser(t);
    const film = [];

    /** A page of a server with these settings, where somebody has pressed “Listen”. */
    const listen = async (server, token) => {
      const page = await chromium.newPage();
      await page.setViewport(SIZE);
      await page.goto(new URL("/", server.url).href);
      if (token) {
        await page.$eval("#access", (one) => (one.hidden = false));
        await page.type("#token", token);
      }
      await page.$eval("#listen", (one) => one.requestSubmit());
      return page;
    };
    /** Waits for what the page says of its stream, and keeps a picture of it. */
    const shows = async (page, caption, status, notice = /^$/) => {
      await until(
        caption,
        () => page.evaluate((status) => document.querySelector("#status").textContent == status, status),
        () => page.evaluate(() => document.body.innerText),
      );
      await until(caption, async () => notice.test(await page.$eval("#notice", (one) => (one.hidden ? "" : one.textContent))),
        () => page.$eval("#notice", (one) => one.textContent));
      await page.bringToFront();
      await page.evaluate(() => scrollTo(0, 0));
      film.push([caption, await page.screenshot({ encoding: "base64" })]);
    };

    const server = await Server.start(t, { HISTORY_EVENTS: "2" });
    const page = await listen(server);
    await shows(page, "Open", "Listening");
    // Something comes, and then the server forgets everything.
    await publish(server.url, { room: "lobby", data: "hello" });
    await until("the event", () => page.$eval("#events", (one) => one.innerText.includes("hello")));
    await server.kill();
    await shows(page, "The server is away", "Connecting");
    await server.again();
    await shows(page, "A gap", "Listening", /^Events may be missing \(restart\)/);
    await page.setOfflineMode(true);
    await server.kill();
    await shows(page, "No network", "No network", /^Events may be missing/);
    await page.close();

    const full = await Server.start(t, { MAX_CONNECTIONS: "1" });
    const other = connect({ url: full.url, rooms: "lobby" });
    t.after(other.close);
    await until("the only place to be taken", () => other.status.state == "open");
    await shows(await listen(full), "A full server", "Refused for now", /\(full\).*comes back by itself/);

    const guarded = await Server.start(t, { TOKEN_KEYS: TOKEN_KEY, TRY_PAGE: "on" });
    const make = ["--token-keys", TOKEN_KEY, "token", "--user", "me", "--allow", "sse:read", "--expires", "-1m"];
    const token = execFileSync(PROGRAM, make, { encoding: "utf8" }).trim();
    await shows(await listen(guarded, token), "An expired token", "Closed", /^401 unauthorized/);

    assert.equal(film.length, 6);
    if (!process.env.PICTURES) return;
    const sheet = await chromium.newPage();
    await sheet.setViewport({ width: 2 * SIZE.width + 60, height: 600, deviceScaleFactor: 1 });
    await sheet.setContent(`<body style="margin:0;padding:20px;display:grid;grid-template-columns:1fr 1fr;gap:20px;background:#e9eef0;font:600 17px system-ui">
      ${film.map(([caption, data]) => `<figure style="margin:0"><figcaption style="margin:0 0 6px">${caption}</figcaption>
      <img style="display:block;border-radius:8px;border:1px solid #cdd7da" src="data:image/png;base64,${data}"></figure>`).join("")}</body>`);
    const height = await sheet.evaluate(() => document.body.offsetHeight);
    await sheet.screenshot({ path: join(process.env.PICTURES, "states.png"), clip: { x: 0, y: 0, width: 2 * SIZE.width + 60, height } });
  });
});
