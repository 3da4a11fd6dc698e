// Real Chromium, and a site whose pages listen.

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

import puppeteer from "puppeteer-core";

import { skip as noServer, until } from "../server.js";

const PROGRAM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Whether tests in a browser can run. In CI they have to. */
export const skip = noServer || (existsSync(PROGRAM) || process.env.CI == "true" ? false : `${PROGRAM} is not installed`);

const TYPES = { ".js": "text/javascript", ".html": "text/html; charset=utf-8" };

/**
 * Serves the client's files, and a page at every other path. With a `server`, what is below its base path is the server's,
 * but for the client's files, which are there, too.
 */
export async function site(t, { html = "<!doctype html><title>A page</title><body>", server: other = undefined } = {}) {
  const server = createServer((asked, answer) => {
    const { pathname } = new URL(asked.url, "http://any");
    const file = join(ROOT, pathname.replace("/api/v1/sse/client", "/client"));
    const isFile = file.startsWith(ROOT) && /\/client/.test(pathname) && existsSync(file);
    if (other && !isFile && pathname.startsWith("/api/")) {
      const { method, url, headers } = asked;
      const passed = request({ host: "127.0.0.1", port: other.port, method, path: url, headers }, (got) => {
        got.on("error", () => answer.destroy());
        answer.writeHead(got.statusCode, got.headers);
        got.pipe(answer);
      });
      passed.on("error", () => answer.destroy());
      answer.on("close", () => passed.destroy());
      asked.pipe(passed);
      return;
    }
    answer.setHeader("content-type", TYPES[isFile ? extname(file) : ".html"] ?? "text/plain");
    answer.end(isFile ? readFileSync(file) : html);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";

/** Whether tests in Firefox can run. In CI they have to. */
export const skipFirefox = noServer || (existsSync(FIREFOX) || process.env.CI == "true" ? false : `${FIREFOX} is not installed`);

/** Firefox, as {@link browser}. */
export async function firefox(t) {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-browser-"));
  const started = await puppeteer.launch({
    browser: "firefox",
    executablePath: FIREFOX,
    headless: true,
    userDataDir: join(folder, "profile"),
    env: { ...process.env, HOME: folder },
    extraPrefsFirefox: { "network.proxy.type": 0 },
  });
  t.after(() => end(started, folder));
  return started;
}

async function end(started, folder) {
  await started.close().catch(() => started.process()?.kill("SIGKILL"));
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}

/** A browser of its own, without any other's files, and without a network beyond this machine. */
export async function browser(t) {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-browser-"));
  const started = await puppeteer.launch({
    browser: "chrome",
    executablePath: PROGRAM,
    headless: true,
    pipe: true,
    userDataDir: join(folder, "profile"),
    env: { ...process.env, HOME: folder },
    // These keep pages awake that nobody sees, or from being kept.
    ignoreDefaultArgs: ["--disable-renderer-backgrounding", "--disable-back-forward-cache"],
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
  t.after(() => end(started, folder));
  return started;
}

/** A tab with a page that listens. */
export class Tab {
  static async open(browser, origin, options) {
    const tab = new Tab();
    tab.page = await browser.newPage();
    tab.errors = [];
    tab.page.on("pageerror", (error) => tab.errors.push(String(error)));
    tab.origin = origin;
    await tab.page.goto(`${origin}/page`);
    await tab.listen(options);
    await tab.settles();
    return tab;
  }

  /** The page keeps what its stream gives, also over a reload. */
  async listen(options = this.options) {
    this.options = options;
    await this.page.evaluate(
      async (options) => {
        const { connect } = await import("/client.js");
        window.got = JSON.parse(sessionStorage.got ?? "[]");
        window.told = [];
        window.stream = connect({ ...options, onError: (error) => told.push(String(error)) });
        const keep = (one) => {
          got.push(one);
          sessionStorage.got = JSON.stringify(got);
        };
        stream.on("n", ({ data }) => keep(data));
        stream.on("gap", ({ data }) => keep(data.reason));
        stream.watch(({ state, via, reason }) => told.push([state, via, reason].join(" ")));
        window.addEventListener("pageshow", (event) => (window.wasKept = event.persisted));
      },
      options,
    );
  }

  got() {
    return this.page.evaluate(() => window.got);
  }

  status() {
    return this.page.evaluate(() => ({ ...stream.status }));
  }

  told() {
    return this.page.evaluate(() => told);
  }

  /** Waits until the newest event is `data`. */
  has(data) {
    return until(`event ${data}`, async () => (await this.got()).at(-1) === data, async () => [await this.got(), await this.told()]);
  }

  /** Waits until the stream is open, or closed for good: what is published after that is for it. */
  settles() {
    return until("a stream", async () => /open|closed/.test((await this.status()).state), async () => [await this.status(), await this.told()]);
  }

  open() {
    return until("an open stream", async () => (await this.status()).state == "open", async () => [await this.status(), await this.told()]);
  }

  /** Blocks the page's thread: it neither runs nor is told that it does not. */
  block(ms) {
    this.page.evaluate((ms) => void setTimeout(() => { for (const end = Date.now() + ms; Date.now() < end; ); }), ms).catch(() => {});
  }

  async crash() {
    const session = await this.page.createCDPSession();
    const gone = once(this.page, "error");
    session.send("Page.crash").catch(() => {});
    await gone.catch(() => {});
  }

  async freeze(state = "frozen") {
    const session = await this.page.createCDPSession();
    await session.send("Page.setWebLifecycleState", { state });
  }
}
