// The tutorial, read by two in their languages.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, look, showcase, until } from "./world.mjs";

let server, chromium, ann, bob;
before(async () => {
  server = await showcase();
  chromium = await browser(server.url);
  ann = await chromium.visitor("ann", "/tutorial/", { signsIn: false });
  bob = await chromium.visitor("bob", "/tutorial/#ai", { language: "zh", signsIn: false });
});
after(async () => {
  await server?.end();
  await chromium?.end();
});

const headed = (page, text) => until(page, text, (text) => document.querySelector("#text h1")?.textContent == text, text);
const code = (page) => page.$$eval("#text pre", (all) => all.map((one) => one.textContent));

test("each reads in their own language, and the code is the same", async () => {
  await headed(ann, "Your first page");
  assert.match(await bob.$eval("#text", (one) => one.textContent), /\p{Script=Han}/u);
  await ann.click('#texts [href="#ai"]');
  await headed(ann, "An AI answer");
  assert.deepEqual(await code(ann), await code(bob));
  assert.ok((await code(ann)).length > 3);
});

test("a link from text to text leads there, and back", async () => {
  await ann.click('#texts [href="#first-page"]');
  await headed(ann, "Your first page");
  await ann.click('#text [href="#chat"]');
  await headed(ann, "A chat in an hour");
  assert.equal(await ann.$eval("#texts [aria-current]", (one) => one.hash), "#chat");
  await ann.goBack();
  await headed(ann, "Your first page");
});

test("all looks as it should", async () => {
  await ann.click('#texts [href="#chat"]');
  await headed(ann, "A chat in an hour");
  await look(ann, "tutorial");
  await look(bob, "tutorial-zh");
});
