// Uploads and a task, seen in two tabs of one user, while somebody else has their own.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { request } from "node:http";
import { readdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { arrived, browser, look, showcase, until } from "./world.mjs";

let server, chromium, ann, tab, bob;
before(async () => {
  server = await showcase();
  chromium = await browser(server.url);
  ann = await chromium.visitor("ann", "/progress/");
  tab = await ann.another();
  bob = await chromium.visitor("bob", "/progress/");
  for (const page of [ann, tab, bob]) await arrived(page);
});
after(async () => {
  await server?.end();
  await chromium?.end();
});

/** Waits until the job of this name is in a state, and has more than a part of its way behind it. */
const job = (page, name, state, part = 0) =>
  until(page, `${name} to be ${state} at ${part}`, (name, state, part) =>
    [...document.querySelectorAll("#jobs li")].some((one) =>
      one.querySelector("strong").textContent == name && one.dataset.state == state && one.querySelector("progress").value >= part),
  name, state, part);

const textOf = (page, name) =>
  page.$$eval("#jobs li", (all, name) => all.find((one) => one.querySelector("strong").textContent == name)?.querySelector(".text").textContent, name);

const press = (page, name, what) =>
  page.$$eval("#jobs li", (all, name, what) => all.find((one) => one.querySelector("strong").textContent == name).querySelector(what).click(), name, what);

async function upload(page, path, { isSlow = false } = {}) {
  await page.bringToFront();
  await (await page.$("#file")).uploadFile(path);
  if (isSlow != (await page.$eval("#slow", (one) => one.checked))) await page.locator("#slow").click();
  await page.locator("#upload button").click();
}

/** An upload from outside a browser, that the test sends as slowly as it likes. */
async function begin(page, name, total) {
  const cookie = (await page.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  const headers = { cookie, "content-length": total };
  const sending = request(`${server.url}/app/progress/uploads?name=${name}`, { method: "POST", headers });
  const answer = new Promise((resolve) => sending.on("response", (got) => resolve(got.statusCode)).on("error", () => resolve(null)));
  sending.flushHeaders();
  return { sending, answer };
}

test("an upload's bar moves in both tabs, and is where it was after a reload", async () => {
  const { sending, answer } = await begin(ann, "tide.bin", 4_000_000);
  sending.write(Buffer.alloc(1_000_000));
  await job(ann, "tide.bin", "running", 0.25);
  await job(tab, "tide.bin", "running", 0.25);
  assert.equal(await textOf(tab, "tide.bin"), "1 MB of 4 MB");
  sending.write(Buffer.alloc(1_000_000));
  await job(ann, "tide.bin", "running", 0.5);
  await tab.reload();
  await job(tab, "tide.bin", "running", 0.5);
  sending.end(Buffer.alloc(2_000_000));
  assert.equal(await answer, 201);
  await job(ann, "tide.bin", "done", 1);
  await job(tab, "tide.bin", "done", 1);
  assert.equal(await bob.$$eval("#jobs li", (all) => all.length), 0);
});

test("a file from the browser comes back as it was, and only to its owner", async () => {
  const path = join(server.folder, "café 潮.bin");
  const bytes = randomBytes(3_000_000);
  await writeFile(path, bytes);
  await upload(ann, path);
  await job(ann, "café 潮.bin", "done");
  await job(tab, "café 潮.bin", "done");
  const link = await tab.$eval("#jobs li a", (one) => ({ href: one.href, name: one.download }));
  assert.equal(link.name, "café 潮.bin");
  const sum = await tab.evaluate(async (href) => {
    const answer = await fetch(href);
    const sum = await crypto.subtle.digest("SHA-256", await answer.arrayBuffer());
    return [answer.headers.get("content-disposition"), [...new Uint8Array(sum)].map((byte) => byte.toString(16).padStart(2, "0")).join("")];
  }, link.href);
  assert.deepEqual(sum, ["attachment", createHash("sha256").update(bytes).digest("hex")]);
  assert.equal(await bob.evaluate((href) => fetch(href).then((answer) => answer.status), link.href), 404);
});

test("an upload that breaks off, and one that is stopped in another tab, say so and leave nothing", async () => {
  const before = (await readdir(join(server.folder, "files"))).length;
  const { sending } = await begin(ann, "broken.bin", 4_000_000);
  sending.write(Buffer.alloc(1_000_000));
  await job(tab, "broken.bin", "running", 0.25);
  sending.destroy();
  await job(ann, "broken.bin", "failed");
  assert.equal(await textOf(tab, "broken.bin"), "The upload broke off.");

  const path = join(server.folder, "slow.bin");
  await writeFile(path, Buffer.alloc(30_000_000));
  await upload(ann, path, { isSlow: true });
  await job(tab, "slow.bin", "running", 0.01);
  assert.equal(await bob.evaluate(async (id) => (await fetch(`/app/progress/${id}`, { method: "DELETE" })).status, await idOf(tab, "slow.bin")), 404);
  await press(tab, "slow.bin", "button");
  await job(ann, "slow.bin", "failed");
  assert.equal(await textOf(ann, "slow.bin"), "Stopped.");
  assert.equal((await readdir(join(server.folder, "files"))).length, before);
});

const idOf = (page, name) =>
  page.$$eval("#jobs li", (all, name) => all.find((one) => one.querySelector("strong").textContent == name).querySelector("a").href.split("/").pop(), name);

test("what is too large, too much or has a bad name is refused", async () => {
  const path = join(server.folder, "large.bin");
  await writeFile(path, "");
  await truncate(path, 65_000_000);
  await upload(bob, path);
  await until(bob, "a word about it", () => document.querySelector(".told")?.textContent.includes("too large"));
  assert.equal(await (await begin(bob, "a".repeat(121), 1)).answer.then((status) => status), 422);
  const { answer } = await begin(bob, "large.bin", 65_000_000);
  assert.equal(await answer, 413);
  // Three at once, and not a fourth.
  const three = await Promise.all([1, 2, 3].map((n) => begin(bob, `part-${n}`, 1000)));
  for (const [n, { sending }] of three.entries()) {
    sending.write("x");
    await job(bob, `part-${n + 1}`, "running");
  }
  await bob.bringToFront();
  await bob.locator("#report button").click();
  await until(bob, "a word about it", () => document.querySelector(".told")?.textContent.includes("Enough is running"));
  for (const { sending } of three) sending.destroy();
  for (const n of [1, 2, 3]) await job(bob, `part-${n}`, "failed");
});

test("a task goes through its steps, with and without its page", async () => {
  await bob.bringToFront();
  await bob.locator("#report button").click();
  await job(bob, "primes.txt", "running", 0.05);
  assert.match(await textOf(bob, "primes.txt"), /^Step 1 of 3/);
  await bob.reload();
  await job(bob, "primes.txt", "running", 0.1);
  await until(bob, "the second step", () => document.querySelector("#jobs")?.innerText.includes("Step 2 of 3"));
  await look(bob, "progress");
  await job(bob, "primes.txt", "done", 1);
  const text = await bob.evaluate((id) => fetch(`/app/progress/files/${id}`).then((answer) => answer.text()), await idOf(bob, "primes.txt"));
  const lines = text.trim().split("\n");
  assert.match(lines[0], /^78498 primes/);
  assert.equal(lines.length, 1 + 8169);
});

test("all looks as it should", async () => {
  await look(ann, "progress-over");
});

test("a restart ends what was running, and says so", async () => {
  await bob.bringToFront();
  await bob.locator("#report button").click();
  await job(bob, "primes.txt", "running", 0.05);
  await server.stop();
  await server.start();
  await arrived(bob);
  await until(bob, "a word about it", () => document.querySelector("#jobs li .text")?.textContent == "The server was started again meanwhile.");
  await arrived(ann);
  await job(ann, "tide.bin", "done");
});
