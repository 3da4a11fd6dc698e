// The chat, used by three people at once.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { arrived, browser, look, showcase, until } from "./world.mjs";

let server, chromium, ann, bob, cat;
before(async () => {
  server = await showcase();
  chromium = await browser(server.url);
  // The first of all is the admin.
  ann = await chromium.visitor("ann", "/chat/#chat-lobby,chat-kitchen");
  bob = await chromium.visitor("bob", "/chat/#chat-lobby");
  await arrived(ann);
  await arrived(bob);
});
after(async () => {
  await server?.end();
  await chromium?.end();
});

const panel = (place) => `section[aria-labelledby="title-${place}"]`;

/** A picture to send. */
const HARBOUR = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 240"><rect width="480" height="240" fill="#f6c38b"/>
  <circle cx="340" cy="118" r="46" fill="#f2784b"/><path fill="#0b6a75" d="M0 140q60-22 120 0t120 0 120 0 120 0v100H0z"/>
  <path fill="#084c54" d="M0 180q60-22 120 0t120 0 120 0 120 0v60H0z"/><path fill="#fff" d="M120 60v70H70zm10-10 44 80h-44z"/>
  <path fill="#7a3b2e" d="M60 138h130l-22 26H82z"/></svg>`;

/** Writes a text as a person would, and sends it by Enter. */
async function write(page, place, text) {
  await page.locator(`${panel(place)} textarea`).fill(text);
  await page.focus(`${panel(place)} textarea`);
  await page.keyboard.press("Enter");
}

/** What a panel's messages say, the pending ones included. */
const texts = (page, place) =>
  page.$$eval(`${panel(place)} .message > .text`, (all) => all.map((one) => one.textContent));

const shows = (page, place, text, count = 1) =>
  until(page, `${count} of “${text}” in ${place}`, (selector, text, count) => {
    const all = [...document.querySelectorAll(`${selector} .message:not(.pending) > .text`)];
    return all.filter((one) => one.textContent == text).length == count;
  }, panel(place), text, count);

const says = (page, text) =>
  until(page, `the page to say ${text}`, (source) => RegExp(source).test(document.querySelector(".told")?.textContent), text);

const status = (page, name, wanted) =>
  until(page, `${name} to be ${wanted}`, (name, wanted) => {
    const people = [...document.querySelectorAll("#people .person")];
    return people.some((one) => one.querySelector(".name").textContent == name && one.dataset.status == wanted);
  }, name, wanted);

test("a message is there at once for its sender, and for everybody in the room alone", async () => {
  // The answer is held back: the sender sees the message all the same.
  await ann.setRequestInterception(true);
  let resolve;
  const asked = new Promise((done) => (resolve = done));
  const hold = (request) => (request.method() == "POST" && request.url().endsWith("/app/chat/chat-lobby") ? resolve(request) : request.continue());
  ann.on("request", hold);
  await write(ann, "chat-lobby", "Good morning <b>all</b>");
  const held = await asked;
  assert.deepEqual(await texts(ann, "chat-lobby"), ["Good morning <b>all</b>"]);
  assert.equal(await ann.$$eval(`${panel("chat-lobby")} .pending`, (all) => all.length), 1);
  await held.continue();
  ann.off("request", hold);
  await ann.setRequestInterception(false);
  await shows(ann, "chat-lobby", "Good morning <b>all</b>");
  await shows(bob, "chat-lobby", "Good morning <b>all</b>");

  await write(ann, "chat-kitchen", "Coffee is ready");
  await shows(ann, "chat-kitchen", "Coffee is ready");
  // Bob's stream has what came after it, so it would have had the other room's message, too.
  await write(ann, "chat-lobby", "Back in the lobby");
  await shows(bob, "chat-lobby", "Back in the lobby");
  assert.ok(!(await bob.evaluate(() => document.body.innerText)).includes("Coffee"));
});

test("another tab of the sender has the message, once", async () => {
  const tab = await bob.another();
  await arrived(tab);
  await bob.bringToFront();
  await write(bob, "chat-lobby", "From my first tab");
  await shows(bob, "chat-lobby", "From my first tab");
  await shows(tab, "chat-lobby", "From my first tab");
  await tab.close();
});

test("who comes and goes is told, and a reload is neither", async () => {
  cat = await chromium.visitor("cat", "/chat/#chat-lobby");
  const notice = (page, text) =>
    until(page, text, (text) => [...document.querySelectorAll(".notice")].some((one) => one.textContent == text), text);
  await notice(ann, "cat came in");
  await status(ann, "cat", "online");
  await cat.reload();
  await arrived(cat);
  await write(cat, "chat-lobby", "I am back");
  await shows(ann, "chat-lobby", "I am back");
  const notices = await ann.$$eval(".notice", (all) => all.map((one) => one.textContent));
  assert.deepEqual(notices.filter((text) => text.startsWith("cat")), ["cat came in"]);
  const eve = await chromium.visitor("eve", "/chat/#chat-lobby");
  await notice(ann, "eve came in");
  await eve.context.close();
  await notice(ann, "eve left");
  await status(ann, "eve", "offline");
});

test("others see who types and who is idle", async () => {
  await bob.focus(`${panel("chat-lobby")} textarea`);
  await bob.keyboard.type("hm");
  await status(ann, "bob", "typing");
  await until(ann, "the line of who types", () => document.querySelector(".typing")?.textContent == "bob: typing…");
  await status(ann, "bob", "online");
  const setVisible = (state) =>
    bob.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  await setVisible("hidden");
  await status(ann, "bob", "idle");
  await setVisible("visible");
  await status(ann, "bob", "online");
  await bob.locator(`${panel("chat-lobby")} textarea`).fill("");
});

test("a tab that is idle does not make somebody idle who uses another", async () => {
  const tab = await bob.another();
  await arrived(tab);
  await bob.bringToFront();
  await bob.keyboard.press("Shift");
  await status(ann, "bob", "online");
  // The other tab has the last word, for a moment: so it was when it became hidden just after this one was shown.
  const told = (page) => page.waitForRequest((request) => request.method() == "PUT" && request.url().includes("/presence/"));
  const again = told(bob);
  await tab.evaluate(async () => {
    const { show } = await import("/api/v1/sse/client/presence.js");
    const { token } = await import("/api.js");
    await show("/api/v1/sse", "chat-everyone", { status: "idle" }, { token: await token() });
  });
  assert.deepEqual(JSON.parse((await again).postData()), { data: { status: "online" } });
  await status(ann, "bob", "online");
  await tab.close();
});

test("private messages are for two, and wait with a number", async () => {
  const dan = await chromium.visitor("dan", "/chat/#chat-lobby");
  await arrived(dan);
  await bob.locator('[data-person="ann"]').click();
  await bob.locator("dialog .strong").click();
  await write(bob, "@ann", "Just between us");
  await shows(bob, "@ann", "Just between us");
  const number = () => until(ann, "a number at bob", () => document.querySelector("#people .badge")?.textContent == "1 new");
  await number();
  await ann.reload();
  await number();
  await ann.locator("#people .person:has(.badge)").click();
  await shows(ann, "@bob", "Just between us");
  await write(ann, "@bob", "Our secret");
  await shows(bob, "@ann", "Our secret");
  await write(ann, "chat-lobby", "For everybody");
  await shows(dan, "chat-lobby", "For everybody");
  assert.ok(!(await dan.evaluate(() => document.body.innerText)).includes("secret"));
  // Not by its own name, and not by a search either.
  const found = await dan.evaluate(() => fetch("/app/chat/search?q=secret").then((answer) => answer.json()));
  assert.deepEqual(found.messages, []);
  await dan.context.close();
});

test("a reply quotes, and an image is sent and shown", async () => {
  await bob.evaluate((selector) => {
    const all = [...document.querySelectorAll(`${selector} .message`)];
    all.find((one) => one.textContent.includes("Good morning")).querySelector(".reply").click();
  }, panel("chat-lobby"));
  await write(bob, "chat-lobby", "Morning, ann");
  await until(ann, "the quote", () => document.querySelector(".quote")?.textContent == "ann Good morning <b>all</b>");

  const picture = `${server.folder}/harbour.png`;
  await chromium.draw(HARBOUR, picture);
  const file = await bob.$(`${panel("chat-lobby")} input[type=file]`);
  await file.uploadFile(picture);
  await write(bob, "chat-lobby", "What it looks like");
  await until(ann, "the image", () => document.querySelector(".picture img")?.naturalWidth > 0);
});

test("all looks as it should", async () => {
  await look(ann, "chat");
});

test("the keyboard alone gets everywhere", async () => {
  await cat.bringToFront();
  const reached = new Set();
  const where = () =>
    cat.evaluate(() => {
      const { activeElement: at } = document;
      return at.id || at.dataset.person || at.ariaLabel || at.placeholder || at.textContent;
    });
  // From the search field, once around.
  await cat.focus("#search input");
  for (let at = ""; at != "Search messages"; at = await where()) {
    reached.add(await where());
    await cat.keyboard.press("Tab");
    assert.ok(reached.size < 100);
  }
  for (const one of ["Lobby", "Kitchen", "ann", "bob", "Leave Lobby", "Reply to ann", "Add an image", "Write to Lobby", "Send"]) {
    assert.ok([...reached].some((name) => name.startsWith(one)), `${one} in ${[...reached]}`);
  }
  // A dialog opens, keeps the focus, and gives it back.
  await cat.focus('[data-person="bob"]');
  await cat.keyboard.press("Enter");
  await until(cat, "the dialog", () => document.activeElement.closest("dialog"));
  await cat.keyboard.press("Escape");
  await until(cat, "the focus", () => document.activeElement.dataset.person == "bob");
});

test("a double click and a retry send once, and a repeat gets a kind word", async () => {
  await bob.locator(`${panel("chat-lobby")} textarea`).fill("Click, click");
  await bob.click(`${panel("chat-lobby")} form .strong`, { count: 2 });
  await shows(ann, "chat-lobby", "Click, click");

  // The first request is lost, and of the second one the answer. The page sends the same again by itself.
  let asked = 0;
  await bob.setRequestInterception(true);
  const lose = async (request) => {
    if (request.method() != "POST" || !request.url().endsWith("/app/chat/chat-lobby")) return request.continue();
    asked += 1;
    if (asked == 2) {
      const cookie = (await bob.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
      const headers = { "content-type": "application/json", cookie };
      const answer = await fetch(request.url(), { method: "POST", headers, body: request.postData() });
      assert.equal(answer.status, 201);
    }
    await request.abort();
  };
  bob.on("request", lose);
  await write(bob, "chat-lobby", "Over a bad line");
  await shows(bob, "chat-lobby", "Over a bad line");
  bob.off("request", lose);
  await bob.setRequestInterception(false);
  assert.equal(asked, 2);

  await write(bob, "chat-lobby", "Over a bad line");
  await says(bob, "You just said that");
  assert.equal(await bob.$eval(`${panel("chat-lobby")} textarea`, (text) => text.value), "Over a bad line");
  await write(bob, "chat-lobby", "Something else");
  await shows(ann, "chat-lobby", "Something else");
  await shows(ann, "chat-lobby", "Click, click", 1);
  await shows(ann, "chat-lobby", "Over a bad line", 1);
});

test("history comes on join, and by scrolling back to the first message", async () => {
  await bob.evaluate(async () => {
    for (let n = 1; n <= 70; n++) {
      const body = JSON.stringify({ text: `line ${n}`, key: `history-${n}` });
      for (;;) {
        const answer = await fetch("/app/chat/chat-workshop", { method: "POST", headers: { "content-type": "application/json" }, body });
        if (answer.ok) break;
        await new Promise((go) => setTimeout(go, 100));
      }
    }
  });
  await ann.evaluate(() => [...document.querySelectorAll("#rooms button")].find((one) => one.textContent == "Workshop").click());
  await until(ann, "the newest page", (selector) => {
    const all = [...document.querySelectorAll(`${selector} .text`)].map((one) => one.textContent);
    return all[0] == "line 41" && all.at(-1) == "line 70";
  }, panel("chat-workshop"));
  // A page that is not seen does not notice that it scrolls.
  await ann.bringToFront();
  await until(ann, "the first line", (selector) => {
    const log = document.querySelector(`${selector} .log`);
    log.scrollTop = 0;
    return log.querySelector(".text")?.textContent == "line 1";
  }, panel("chat-workshop"));
  const wanted = Array.from({ length: 70 }, (_, n) => `line ${n + 1}`);
  assert.deepEqual(await texts(ann, "chat-workshop"), wanted);
});

test("search finds parts of words, and goes to the message", async () => {
  await write(ann, "chat-kitchen", "今天下午三点涨潮");
  await shows(ann, "chat-kitchen", "今天下午三点涨潮");
  await bob.locator("#search input").fill("涨潮");
  await bob.keyboard.press("Enter");
  await bob.locator("dialog.search li button").click();
  await until(bob, "the message, marked", () => document.querySelector(".found > .text")?.textContent == "今天下午三点涨潮");
});

test("an admin mutes and unmutes, and nobody else does", async () => {
  await ann.locator(`${panel("chat-lobby")} [data-person="bob"]`).click();
  await ann.evaluate(() => [...document.querySelectorAll("dialog button")].find((one) => one.textContent.startsWith("Mute")).click());
  const isMuted = (muted) =>
    until(bob, `bob's form, muted: ${muted}`, (selector, muted) => document.querySelector(`${selector} textarea`)?.disabled == muted, panel("chat-lobby"), muted);
  await isMuted(true);
  // A page that insists, and one that is loaded again, get no further.
  const refused = (body) =>
    bob.evaluate(async (body) => {
      const headers = { "content-type": "application/json" };
      return (await (await fetch("/app/chat/chat-lobby", { method: "POST", headers, body })).json()).code;
    }, JSON.stringify(body));
  assert.equal(await refused({ text: "but", key: "muted" }), "muted");
  await bob.reload();
  await isMuted(true);
  const status = await bob.evaluate(() => fetch("/app/chat/chat-lobby/mute/ann", { method: "DELETE" }).then((answer) => answer.status));
  assert.equal(status, 403);

  await ann.locator(`${panel("chat-lobby")} [data-person="bob"]`).click();
  await ann.evaluate(() => [...document.querySelectorAll("dialog button")].find((one) => one.textContent == "Unmute").click());
  await isMuted(false);
  await write(bob, "chat-lobby", "Thank you");
  await shows(ann, "chat-lobby", "Thank you");
});

test("after a restart nothing is missing, and nobody does anything", async () => {
  await server.stop();
  await until(ann, "a page that waits", () => document.querySelector("#state")?.dataset.state != "open");
  // Written while the server is away: the page goes on trying, then there is a button.
  await write(bob, "chat-lobby", "Said into the dark");
  await until(bob, "a button to try again", () => document.querySelector(".pending .error button"));
  // The first try to load what is missing fails.
  let asked = 0;
  const fail = (request) => (request.url().endsWith("/app/chat/chat-lobby") && !asked++ ? request.abort() : request.continue());
  await ann.setRequestInterception(true);
  ann.on("request", fail);
  await server.start();
  await arrived(ann);
  await arrived(bob);
  await until(ann, "a line about the gap", () => document.body.innerText.includes("loaded again"));
  assert.equal(asked, 2);
  ann.off("request", fail);
  await ann.setRequestInterception(false);
  await bob.locator(".pending .error button").click();
  await shows(ann, "chat-lobby", "Said into the dark");
  await shows(ann, "chat-lobby", "Thank you");
});

test("all is there in Chinese", async () => {
  const min = await chromium.visitor("小明", "/chat/#chat-lobby,chat-kitchen", { language: "zh-CN" });
  await arrived(min);
  await until(min, "the rooms", () => document.querySelector("#rooms")?.textContent == "大厅厨房工作室");
  await write(min, "chat-lobby", "大家好！");
  await shows(ann, "chat-lobby", "大家好！");
  await status(ann, "小明", "online");
  await look(min, "chat-zh");
  await min.context.close();
});
