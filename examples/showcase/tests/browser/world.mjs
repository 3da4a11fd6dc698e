// What the tests of the pages share: the showcase as a process, and browsers that visit it.
//
// SHOWCASE is the program, CHROMIUM the browser's. With PICTURES, a folder, `picture` writes what a page looks like there.
// Nothing waits for a fixed time: each wait is for a condition, and only a failure takes as long as PATIENCE_MS.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import puppeteer from "../../../../tests/npm/node_modules/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js";

const PATIENCE_MS = +(process.env.PATIENCE_MS ?? 60_000);
const { SHOWCASE, CHROMIUM = "/usr/bin/chromium", PICTURES } = process.env;
const AXE = new URL("../../../../tests/npm/node_modules/axe-core/axe.min.js", import.meta.url);

/** The showcase with a folder of its own. `restart` ends it and starts it again, at the same address with the same data. */
export async function showcase() {
  const folder = await mkdtemp(join(tmpdir(), "showcase-test-"));
  const run = async (listen) => {
    const child = spawn(SHOWCASE, ["--listen", listen, "--data", folder], { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: child.stdout })) {
      const [url] = /http:\S+(?=\/ )/.exec(line) ?? [];
      if (url) return { child, url };
    }
    throw Error("the showcase did not start");
  };
  const end = async ({ child }, signal) => {
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  };
  let running = await run("127.0.0.1:0");
  return {
    folder,
    url: running.url,
    stop: () => end(running, "SIGINT"),
    start: async () => (running = await run(running.url.slice("http://".length))),
    async end() {
      if (running.child.exitCode == null && running.child.signalCode == null) await end(running, "SIGKILL");
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A browser. Each visitor has cookies and storage of their own in it, as if it were a browser of theirs. */
export async function browser(url) {
  const chromium = await puppeteer.launch({
    executablePath: CHROMIUM,
    pipe: true,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    ],
  });
  const faults = [];
  return {
    /** Somebody with this name, at a page. Some pages ask for no name. */
    async visitor(name, path, { language = "en", signsIn = true } = {}) {
      const context = await chromium.createBrowserContext();
      const open = async () => {
        const page = await context.newPage();
        page.setDefaultTimeout(PATIENCE_MS);
        page.on("pageerror", (error) => faults.push(`${name}: ${error.stack}`));
        page.on("console", (message) => {
          // Refusals that a test provokes are errors to the browser, and so is a server that is away.
          if (message.type() == "error" && !/Failed to load resource/.test(message.text())) faults.push(`${name}: ${message.text()}`);
        });
        await page.setViewport({ width: 1280, height: 800 });
        await page.evaluateOnNewDocument((tags) => Object.defineProperty(navigator, "languages", { get: () => tags }), [language]);
        await page.goto(url + path);
        return page;
      };
      const page = await open();
      if (signsIn) {
        await page.locator("dialog #name").fill(name);
        await page.keyboard.press("Enter");
        await page.waitForFunction(() => !document.querySelector("dialog"));
      }
      return Object.assign(page, { another: open, context });
    },
    /** Draws a picture into a file. */
    async draw(svg, path) {
      const page = await chromium.newPage();
      await page.setContent(svg);
      await (await page.$("svg")).screenshot({ path });
      await page.close();
    },
    faults,
    async end() {
      await chromium.close();
      assert.deepEqual(faults, []);
    },
  };
}

/** Waits until `condition` is true in the page. The page's text is in the failure. */
// A condition that throws is not asked again. A page that is loaded anew has nothing for a moment, so each has to take that.
export async function until(page, what, condition, ...values) {
  try {
    return await page.waitForFunction(condition, { timeout: PATIENCE_MS, polling: 50 }, ...values);
  } catch (error) {
    const text = await page.evaluate(() => document.body.innerText).catch(() => "");
    throw Error(`waited for: ${what}\n${text}`, { cause: error });
  }
}

/** Waits until the page's stream is open. */
export const arrived = (page) =>
  until(page, "an open stream", () => document.querySelector("#state")?.dataset.state == "open");

/** Checks the page with axe-core, all of WCAG 2.2 A and AA. */
export async function accessible(page, what) {
  await page.evaluate(await readFile(AXE, "utf8"));
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const found = await page.evaluate((values) => axe.run(document, { runOnly: values }), tags);
  const faults = found.violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" | ")}`);
  assert.deepEqual(faults, [], what);
}

const LOOKS = [
  ["light", "light", 1280, 800],
  ["dark", "dark", 1280, 800],
  ["phone", "light", 390, 844],
  ["phone-dark", "dark", 390, 844],
];

/** Looks at the page as it is in light and dark and on a phone: for accessibility, and for pictures if they are wanted. */
export async function look(page, name) {
  await until(page, "nothing that goes away by itself", () => !document.querySelector(".told > *"));
  for (const [look, scheme, width, height] of LOOKS) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
    await page.setViewport({ width, height });
    await accessible(page, `${name}, ${look}`);
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(excess <= 0, `${name}, ${look}: ${excess} px too wide`);
    if (!PICTURES) continue;
    await mkdir(PICTURES, { recursive: true });
    await page.screenshot({ path: join(PICTURES, `${name}-${look}.png`) });
  }
  await page.emulateMediaFeatures([]);
  await page.setViewport({ width: 1280, height: 800 });
}
