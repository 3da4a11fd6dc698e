// Answers, read by two at once: from the stand-in, and from models that speak as OpenAI's and Ollama's do.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { browser, look, showcase, until } from "./world.mjs";

let server, chromium, ann, bob;
before(async () => {
  server = await showcase();
  chromium = await browser(server.url);
  ann = await chromium.visitor("ann", "/ai/");
  bob = await chromium.visitor("bob", "/ai/");
});
after(async () => {
  await server?.end();
  await chromium?.end();
});

async function ask(page, question) {
  await page.bringToFront();
  await page.locator("#question").fill(question);
  await page.focus("#question");
  await page.keyboard.press("Enter");
  await until(page, "the answer to begin", (question) => document.querySelector("#asked")?.textContent == question && document.querySelector("#text")?.textContent.length > 20, question);
}

const text = (page) => page.$eval("#text", (one) => one.textContent);
const state = (page, state) => until(page, state, (state) => document.querySelector("#answer")?.dataset.state == state, state);
const holds = (page, part) => until(page, part, (part) => document.querySelector("#text")?.textContent.includes(part), part);
const stored = (page) => page.evaluate(async () => (await (await fetch(`/app/ai/${location.hash.slice(1)}`)).json()).text);

test("a reload in the middle goes on, and a late reader has all of it", async () => {
  await ask(ann, "What is <b>this</b>?");
  await holds(ann, "I am a stand-in");
  await ann.reload();
  await holds(ann, "You asked: “What is <b>this</b>?”");
  assert.equal(await ann.$eval("#answer", (one) => one.dataset.state), "running");
  const hash = new URL(ann.url()).hash;
  await holds(ann, "room of this answer");
  await bob.bringToFront();
  await bob.evaluate((hash) => (location.hash = hash), hash);
  await holds(bob, "You asked: “What is <b>this</b>?”");
  assert.equal(await bob.$eval("#answer", (one) => one.dataset.state), "running");
  // Only who asked can stop it.
  assert.ok(await bob.$eval("#stop", (one) => one.hidden));
  assert.equal(await bob.evaluate(async (id) => (await fetch(`/app/ai/${id}/running`, { method: "DELETE" })).status, hash.slice(1)), 404);
  await look(bob, "ai");
  for (const page of [ann, bob]) {
    await page.bringToFront();
    await state(page, "done");
    await holds(page, "Nothing else changes.");
    assert.equal(await text(page), await stored(page));
  }
  await look(ann, "ai-over");
});

test("an answer that is stopped has the same end for both", async () => {
  await ask(ann, "Go on");
  const hash = new URL(ann.url()).hash;
  await bob.evaluate((hash) => (location.hash = hash), hash);
  await until(bob, "the question", () => document.querySelector("#asked")?.textContent == "Go on");
  await ann.locator("#stop").click();
  for (const page of [ann, bob]) {
    await page.bringToFront();
    await state(page, "stopped");
    await until(page, "the whole text", (whole) => document.querySelector("#text")?.textContent == whole, await stored(page));
  }
});

test("two answers of one user are written at once, and not a third", async () => {
  const post = (question) =>
    bob.evaluate(async (question) => {
      const headers = { "content-type": "application/json" };
      const answer = await fetch("/app/ai", { method: "POST", headers, body: JSON.stringify({ question }) });
      return (await answer.json()).code ?? answer.status;
    }, question);
  assert.deepEqual([await post("1"), await post("2"), await post("3")], [201, 201, "too_many_running"]);
  assert.equal(await post(" "), "question_invalid");
});

test("an answer that a restart has ended says so, and nobody does anything", async () => {
  await ask(ann, "Until when?");
  await holds(ann, "I am a stand-in");
  await server.stop();
  await server.start();
  await state(ann, "restarted");
  await holds(ann, "I am a stand-in");
});

/** A model's server: `speak` writes the answer. */
async function model(speak) {
  const asked = [];
  const http = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    asked.push({ path: request.url, key: request.headers.authorization, ...JSON.parse(body) });
    await speak(response, asked.length);
    response.end();
  }).listen(0, "127.0.0.1");
  await once(http, "listening");
  return { asked, url: `http://127.0.0.1:${http.address().port}`, end: () => http.close() };
}

const WORDS = ["Tides ", "come ", "and ", "go: ", "潮", "汐 🌊."];

async function withModel(environment, cut, check) {
  Object.assign(process.env, environment);
  const own = await showcase();
  for (const name of Object.keys(environment)) delete process.env[name];
  const other = await browser(own.url);
  try {
    const page = await other.visitor("cat", "/ai/");
    await check(page);
    await ask(page, "Tides, once more, please");
    await state(page, cut);
  } finally {
    await own.end();
    await other.end();
  }
}

test("OpenAI's stream is read, also where it is cut within a character", async () => {
  const openai = await model(async (response, nth) => {
    const event = (delta, end = null) => `data: ${JSON.stringify({ choices: [{ delta, finish_reason: end }] })}\n\n`;
    const bytes = Buffer.from(WORDS.map((content) => event({ content })).join("") + event({ content: " The end of it all." }));
    for (let at = 0; at < bytes.length; at += 7) {
      response.write(bytes.subarray(at, at + 7));
      await new Promise((go) => setTimeout(go, 2));
    }
    // The second answer has no end.
    if (nth == 1) response.write(`${event({}, "stop")}data: [DONE]\n\n`);
  });
  await withModel({ OPENAI_API_KEY: "k", OPENAI_BASE_URL: `${openai.url}/v1/`, OPENAI_MODEL: "m" }, "model_failed", async (page) => {
    await ask(page, "Tides?");
    await state(page, "done");
    await holds(page, "Tides come and go: 潮汐 🌊. The end of it all.");
    assert.match(await page.$eval("#model", (one) => one.textContent), /come from m\.$/);
  });
  const [{ path, key, model: name, stream, messages }] = openai.asked;
  assert.deepEqual([path, key, name, stream, messages], ["/v1/chat/completions", "Bearer k", "m", true, [{ role: "user", content: "Tides?" }]]);
  openai.end();
});

test("Ollama's lines are read, and a model that is not there is told", async () => {
  const ollama = await model(async (response, nth) => {
    if (nth > 1) return response.writeHead(200).write('{"message":{"content":"Only the beginning of it"},"done":false}\n');
    for (const content of WORDS) response.write(`${JSON.stringify({ message: { content }, done: false })}\n`);
    response.write('{"message":{"content":""},"done":true}\n');
  });
  await withModel({ OLLAMA_URL: ollama.url }, "model_failed", async (page) => {
    await ask(page, "Tides?");
    await state(page, "done");
    await holds(page, "Tides come and go: 潮汐 🌊.");
  });
  assert.equal(ollama.asked[0].path, "/api/chat");
  ollama.end();
});
