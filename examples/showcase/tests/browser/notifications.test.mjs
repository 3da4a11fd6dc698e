// Notifications, with three people and a second tab.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { arrived, browser, look, showcase, until } from "./world.mjs";

let server, chromium, ann, bob, cat;
before(async () => {
  server = await showcase();
  chromium = await browser(server.url);
  ann = await chromium.visitor("ann", "/notifications/");
  bob = await chromium.visitor("bob", "/notifications/");
  cat = await chromium.visitor("cat", "/notifications/");
  for (const page of [ann, bob, cat]) await arrived(page);
});
after(async () => {
  await server?.end();
  await chromium?.end();
});

/** What an inbox says, the newest first. */
const inbox = (page) => page.$$eval("#notices .text", (all) => all.map((one) => one.textContent));

const unread = (page, count) =>
  until(page, `${count} unread`, (count) => document.querySelector("#unread")?.textContent == `${count} unread`, count);

/** Sends a text: `to` is a list of names, `all` or `staff`. */
async function send(page, to, text) {
  // The list of people is loaded when the first of them is chosen.
  await page.focus('[value="users"]');
  const names = Array.isArray(to) ? to : [];
  await until(page, `${names} to choose`, (names) => names.every((name) => document.querySelector(`[name=person][value="${name}"]`)), names);
  await page.evaluate((names, to) => {
    for (const box of document.getElementsByName("person")) if (box.checked != names.includes(box.value)) box.click();
    document.querySelector(`[name=to][value="${to}"]`).click();
  }, names, names.length ? "users" : to);
  await page.$eval("#text", (field) => (field.value = ""));
  await page.type("#text", text);
  await page.$eval("#send button", (button) => button.click());
  await until(page, "“Sent.”", () => document.querySelector("#told")?.textContent == "Sent.");
}

test("one, several and everyone get what is for them, at once", async () => {
  await send(ann, ["bob"], "For bob");
  await unread(bob, 1);
  await send(ann, ["bob", "cat"], "For bob and cat");
  await unread(cat, 1);
  await send(bob, "all", "For everyone");
  for (const [page, wanted] of [
    [ann, ["For everyone"]],
    [bob, ["For everyone", "For bob and cat", "For bob"]],
    [cat, ["For everyone", "For bob and cat"]],
  ]) {
    await unread(page, wanted.length);
    assert.deepEqual(await inbox(page), wanted);
  }
  assert.equal(await bob.title(), "(3) Notifications");
});

test("only those with the permission get what needs it", async () => {
  await cat.click("#staff");
  await arrived(cat);
  await send(bob, "staff", "For staff");
  // The first user has the permission from the beginning.
  await unread(ann, 2);
  await until(cat, "the notice", () => document.querySelector("#notices .text")?.textContent == "For staff");
  await send(bob, ["bob"], "A mark");
  await until(bob, "the mark", () => document.querySelector("#notices .text")?.textContent == "A mark");
  assert.ok(!(await inbox(bob)).includes("For staff"));
});

test("what is read in one tab is read in the other, and stays read", async () => {
  const tab = await bob.another();
  await arrived(tab);
  await unread(tab, 4);
  await bob.bringToFront();
  await bob.$eval("#notices button", (button) => button.click());
  await unread(bob, 3);
  await unread(tab, 3);
  await bob.$eval("#read-all", (button) => button.click());
  await unread(tab, 0);
  await tab.close();
  await bob.reload();
  await unread(bob, 0);
  assert.equal((await inbox(bob)).length, 4);
});

test("ten tabs share one stream", async () => {
  const tabs = [];
  for (let n = 0; n < 9; n++) tabs.push(await bob.another());
  for (const tab of tabs) await arrived(tab);
  await send(ann, ["bob"], "For all of your tabs");
  for (const tab of [bob, ...tabs]) {
    await until(tab, "the notice", () => document.querySelector("#notices .text")?.textContent == "For all of your tabs");
  }
  for (const tab of tabs) await tab.close();
  await bob.bringToFront();
  await bob.$eval("#read-all", (button) => button.click());
  await unread(bob, 0);
});

test("the browser's own notifications come after consent, and while nobody looks", async () => {
  const tab = await cat.another();
  await tab.evaluateOnNewDocument(() => {
    // Headless browsers show nothing, and nobody there can agree.
    window.shown = [];
    window.Notification = class {
      static permission = "default";
      static requestPermission = async () => (Notification.permission = "granted");
      constructor(title, { body }) {
        shown.push(`${title}: ${body}`);
      }
    };
  });
  await tab.reload();
  await arrived(tab);
  await send(ann, ["cat"], "Before consent");
  const setVisible = (state) =>
    tab.evaluate((state) => Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state }), state);
  const has = (text) => until(tab, text, (text) => document.querySelector("#notices .text")?.textContent == text, text);
  await has("Before consent");
  await tab.$eval("#desktop", (button) => button.click());
  await until(tab, "the button to be gone", () => document.querySelector("#desktop")?.hidden);
  await setVisible("visible");
  await send(ann, ["cat"], "In front of you");
  await has("In front of you");
  await setVisible("hidden");
  await send(ann, ["cat"], "Behind your back");
  await has("Behind your back");
  assert.deepEqual(await tab.evaluate(() => shown), ["ann: Behind your back"]);
  await tab.close();
});

test("a double click sends once, and bad input gets a reason", async () => {
  await ann.focus('[value="users"]');
  await ann.evaluate(() => {
    for (const box of document.getElementsByName("person")) if (box.checked) box.click();
  });
  await ann.type("#text", "To nobody");
  await ann.$eval("#send button", (button) => button.click());
  await until(ann, "a reason", () => document.querySelector("#told")?.textContent == "Choose 1 to 50 people.");
  const answers = await ann.evaluate(async () => {
    const post = async (body) => {
      const headers = { "content-type": "application/json" };
      const answer = await fetch("/app/notifications", { method: "POST", headers, body: JSON.stringify(body) });
      return (await answer.json()).code ?? answer.status;
    };
    const twice = { to: { users: ["bob"] }, text: "Twice", key: "twice" };
    return [
      await post(twice),
      await post(twice),
      await post({ to: "all", text: "x".repeat(281), key: "long" }),
      await post({ to: { users: ["nobody"] }, text: "hi", key: "nobody" }),
      await post({ to: "some", text: "hi", key: "some" }),
    ];
  });
  assert.deepEqual(answers, [201, 201, "notice_invalid", "not_found", "body_invalid"]);
  await unread(bob, 1);
  assert.equal((await inbox(bob)).filter((text) => text == "Twice").length, 1);
});

test("after a restart nothing is missing, and nobody does anything", async () => {
  await server.stop();
  await until(bob, "a page that waits", () => document.querySelector("#state")?.dataset.state != "open");
  await server.start();
  await arrived(ann);
  await send(ann, ["bob"], "After the restart");
  await arrived(bob);
  await until(bob, "the notice", () => document.querySelector("#notices .text")?.textContent == "After the restart");
  assert.equal((await inbox(bob)).length, 7);
});

test("all looks as it should", async () => {
  await look(cat, "notifications");
  await cat.goto(server.url);
  await look(cat, "index");
});

test("all is there in Chinese", async () => {
  const min = await chromium.visitor("小明", "/notifications/", { language: "zh-CN" });
  await arrived(min);
  await send(ann, ["小明"], "你好");
  await until(min, "the notice", () => document.querySelector("#unread")?.textContent == "1 条未读");
  assert.equal(await min.title(), "(1) 通知");
  await look(min, "notifications-zh");
  await min.context.close();
});
