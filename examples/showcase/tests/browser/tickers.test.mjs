// The tickers, watched by two at once.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, look, showcase, until } from "./world.mjs";

let server, chromium, ann, bob;
before(async () => {
  server = await showcase();
  chromium = await browser(server.url);
  ann = await chromium.visitor("ann", "/tickers/", { signsIn: false });
  bob = await chromium.visitor("bob", "/tickers/", { language: "zh", signsIn: false });
});
after(async () => {
  await server?.end();
  await chromium?.end();
});

/** What a board shows: prices by symbol. */
const prices = (page, room) =>
  page.$$eval(`[aria-labelledby=${room}] li`, (all) =>
    Object.fromEntries(all.map((one) => [one.querySelector(".symbol").textContent, one.querySelector(".price").textContent])));

test("who comes has all prices at once, without a name", async () => {
  for (const page of [ann, bob]) {
    // A page that is not seen is not drawn.
    await page.bringToFront();
    for (const room of ["ticker-conflated", "ticker-every"]) {
      await until(page, `200 prices in ${room}`, (room) => document.querySelectorAll(`.prices[aria-labelledby=${room}] li`).length == 200, room);
    }
  }
  assert.equal((await ann.cookies()).length, 0);
  const symbols = Object.keys(await prices(ann, "ticker-every"));
  assert.deepEqual(symbols, symbols.toSorted());
});

test("conflation saves most of the events, for both", async () => {
  for (const page of [ann, bob]) {
    await page.bringToFront();
    await until(page, "rates that have settled", () => {
      const [conflated, every] = [...document.querySelectorAll("#rates .rate")].map((one) => parseInt(one.textContent, 10));
      return every > 100 && conflated > 20 && conflated < every * 0.6;
    });
  }
  assert.match(await ann.$eval("#saved", (one) => one.textContent), /^[4-9]\d% fewer events$/);
  assert.match(await bob.$eval("#saved", (one) => one.textContent), /^少发 [4-9]\d% 的事件$/);
});

test("held boards stand still, and go on with what is newest", async () => {
  await ann.bringToFront();
  await ann.locator("#pause").click();
  const held = await prices(ann, "ticker-every");
  // Bob's boards move on meanwhile.
  await bob.bringToFront();
  const before = await prices(bob, "ticker-every");
  await until(bob, "a change", (before) => [...document.querySelectorAll("[aria-labelledby=ticker-every] li")]
    .some((one) => before[one.querySelector(".symbol").textContent] != one.querySelector(".price").textContent), before);
  await ann.bringToFront();
  assert.deepEqual(await prices(ann, "ticker-every"), held);
  await ann.locator("#pause").click();
  await until(ann, "a change", (held) => [...document.querySelectorAll("[aria-labelledby=ticker-every] li")]
    .some((one) => held[one.querySelector(".symbol").textContent] != one.querySelector(".price").textContent), held);
});

test("all looks as it should", async () => {
  await look(ann, "tickers");
  await look(bob, "tickers-zh");
});

test("after a restart the boards go on by themselves", async () => {
  await server.stop();
  await until(ann, "a page that waits", () => [...document.querySelectorAll(".board")].every((one) => one.dataset.state != "open"));
  const before = await prices(ann, "ticker-conflated");
  await server.start();
  await until(ann, "new prices", (before) => {
    const all = [...document.querySelectorAll("[aria-labelledby=ticker-conflated] li")];
    return all.length == 200 && all.every((one) => before[one.querySelector(".symbol").textContent] != one.querySelector(".price").textContent);
  }, before);
});
