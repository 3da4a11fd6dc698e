// Drives Chromium or Firefox for a test, by puppeteer-core.
//
// node drive.mjs chromium|firefox PROGRAM FOLDER
//
// Reads one command a line from standard input, and answers each with one line of JSON: {"ok":VALUE} or {"error":TEXT}.
// Commands are JSON arrays, such as ["open","http://127.0.0.1:8080/"]. When its input ends, it ends itself and the
// browser.
import { createInterface } from "node:readline";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import puppeteer from "../../npm/node_modules/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js";

const [browserName, executablePath, folder] = process.argv.slice(2);
const home = join(folder, "home");
mkdirSync(home);

// Settings that separate each browser from other instances and from the network.
const own = {
  chromium: {
    browser: "chrome",
    pipe: true,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
      "--host-resolver-rules=MAP *.invalid ~NOTFOUND, MAP *.rebound.test 127.0.0.1",
    ],
  },
  firefox: {
    browser: "firefox",
    extraPrefsFirefox: {
      "network.proxy.type": 0,
      "network.dns.localDomains": "evil.rebound.test",
      "browser.download.folderList": 2,
      "browser.download.dir": home,
    },
  },
}[browserName];

const browser = await puppeteer.launch({
  ...own, executablePath, headless: true, userDataDir: join(folder, "profile"), env: { ...process.env, HOME: home },
});
const page = (await browser.pages())[0] ?? await browser.newPage();
const said = [];
page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => said.push(`error: ${error.message}`));

const commands = {
  // Opens a page.
  open: async (url) => { await page.goto(url); },
  // Runs a script and returns its result, which may be a promise. `arguments` are the values that follow.
  run: (script, ...args) => page.evaluate(`(async function () { ${script} })(...${JSON.stringify(args)})`),
  // Presses a key, such as Tab or Control+Enter, or types a text. Firefox gives a button such a key and does not activate it.
  press: async (keys) => {
    const [key, ...held] = keys.split("+").reverse();
    for (const one of held) await page.keyboard.down(one);
    await page.keyboard.press(key);
    for (const one of held) await page.keyboard.up(one);
  },
  type: (text) => page.keyboard.type(text),
  // The page's width and height.
  size: (width, height) => page.setViewport({ width, height }),
  // `light` or `dark`.
  scheme: (value) => page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]),
  picture: async (path) => { await page.screenshot({ path, fullPage: true }); },
  // Returns what the console has printed so far.
  console: () => said,
};

// Ends the browser, even if a command still waits.
const end = async () => {
  setTimeout(() => { browser.process()?.kill("SIGKILL"); process.exit(1); }, 10_000).unref();
  await browser.close().catch(() => browser.process()?.kill("SIGKILL"));
  process.exit();
};
const input = createInterface({ input: process.stdin });
input.on("close", end);

console.log(JSON.stringify({ ok: await browser.version() }));
for await (const line of input) {
  const [name, ...args] = JSON.parse(line);
  try {
    console.log(JSON.stringify({ ok: (await commands[name](...args)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
