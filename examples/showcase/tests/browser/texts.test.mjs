// Every text of the pages is there in English and in Chinese, and every text that a page asks for is there.
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";

const PAGES = new URL("../../pages/", import.meta.url);

// What the module looks for in a browser.
globalThis.localStorage = { getItem: () => null };
Object.defineProperty(globalThis, "navigator", { value: { languages: ["zh-TW", "en"] }, configurable: true });
const { TEXTS, language, t } = await import(new URL("i18n.js", PAGES));

const names = await readdir(PAGES, { recursive: true });
const sources = await Promise.all(
  names.filter((name) => /\.(js|html)$/.test(name)).map(async (name) => [name, await readFile(new URL(name, PAGES), "utf8")]),
);

test("each text is whole in both languages", () => {
  for (const [key, texts] of Object.entries(TEXTS)) {
    assert.equal(texts.length, 2, key);
    assert.ok(texts.every((text) => text.trim()), key);
    const [english, chinese] = texts.map((text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort());
    assert.deepEqual(english, chinese, `what is put into ${key}`);
  }
  // The switch names the other language.
  const chinese = Object.entries(TEXTS).filter(([key, [, text]]) => key != "language" && !/\p{Script=Han}/u.test(text));
  assert.deepEqual(chinese, []);
});

test("the language is the browser's first that there is", () => {
  assert.equal(language, "zh");
  assert.equal(t("chat.joined", { name: "小明" }), "小明 进来了");
});

test("pages ask for texts that exist, and every text is asked for", () => {
  const asked = new Set();
  // Keys that are put together, such as `error.${code}`: all with this beginning are used.
  const begun = new Set();
  for (const [name, source] of sources) {
    for (const [, key] of source.matchAll(/data-i18n(?:-[a-z-]+)?="([^"$]+)"/g)) asked.add(key);
    for (const [, key] of source.matchAll(/\bt\("([^"]+)"/g)) asked.add(key);
    for (const [, key] of source.matchAll(/\bt\(`([^`$]*)\$\{/g)) key && begun.add(key);
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\bstyle=|\son[a-z]+="/, name);
  }
  assert.deepEqual([...asked].filter((key) => !(key in TEXTS)), []);
  const isUsed = (key) => asked.has(key) || [...begun].some((beginning) => key.startsWith(beginning));
  // The shell asks for the title and the card of each page.
  const unused = Object.keys(TEXTS).filter((key) => !isUsed(key) && !/^[a-z]+\.(title|card)$/.test(key));
  assert.deepEqual(unused, []);
});
