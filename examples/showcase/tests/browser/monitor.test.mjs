// The monitor, seen by two at once.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, look, showcase, until } from "./world.mjs";

let server, chromium, ann, bob;
before(async () => {
  server = await showcase();
  chromium = await browser(server.url);
  ann = await chromium.visitor("ann", "/monitor/");
});
after(async () => {
  await server?.end();
  await chromium?.end();
});

const value = (page, name) => page.$eval(`section[aria-label="${name}"] .value`, (one) => one.textContent);
const points = (page) => page.$eval('section[aria-label="Processors"] .line', (one) => one.getAttribute("d")?.split(/[ML]/).length - 1);

test("every figure is there, and moves", async () => {
  await until(ann, "all figures", () => {
    const all = [...document.querySelectorAll(".value")];
    return all.length == 7 && all.every((one) => /\d/.test(one.textContent));
  });
  const before = await points(ann);
  await until(ann, "a longer line", (before) =>
    document.querySelector('section[aria-label="Processors"] .line')?.getAttribute("d").split(/[ML]/).length - 1 > before + 2, before);
  for (const name of ["Processors", "Memory", "Disk"]) assert.match(await value(ann, name), /^\d+%$/);
  const label = await ann.$eval('section[aria-label="Memory"] svg', (one) => one.getAttribute("aria-label"));
  assert.match(label, /^Memory in the last five minutes: now \d+%, at least \d+%, at most \d+%$/);
});

test("who comes later has what went before, and both see one more connection", async () => {
  const [connections] = (await value(ann, "Connections")).match(/\d+/);
  const drawn = await points(ann);
  bob = await chromium.visitor("bob", "/monitor/");
  await until(bob, "the line of before", (drawn) =>
    document.querySelector('section[aria-label="Processors"] .line')?.getAttribute("d")?.split(/[ML]/).length - 1 >= drawn, drawn);
  for (const page of [bob, ann]) {
    await page.bringToFront();
    await until(page, "one more connection", (wanted) =>
      document.querySelector('section[aria-label="Connections"] .value')?.textContent == wanted, `${+connections + 1}`);
  }
});

test("held charts stand still", async () => {
  await ann.bringToFront();
  await ann.locator("#pause").click();
  const held = await points(ann);
  await bob.bringToFront();
  const before = await points(bob);
  await until(bob, "a longer line", (before) =>
    document.querySelector('section[aria-label="Processors"] .line')?.getAttribute("d").split(/[ML]/).length - 1 > before, before);
  await ann.bringToFront();
  assert.equal(await points(ann), held);
  await ann.locator("#pause").click();
  await until(ann, "a longer line", (held) =>
    document.querySelector('section[aria-label="Processors"] .line')?.getAttribute("d").split(/[ML]/).length - 1 > held, held);
});

test("all looks as it should", async () => {
  await look(ann, "monitor");
});

test("a restart leaves a hole in the charts, and they go on", async () => {
  await server.stop();
  await until(ann, "a page that waits", () => document.querySelector("#state")?.dataset.state != "open");
  const before = await points(ann);
  await server.start();
  await until(ann, "a longer line", (before) =>
    document.querySelector('section[aria-label="Processors"] .line')?.getAttribute("d").split(/[ML]/).length - 1 > before, before);
});
