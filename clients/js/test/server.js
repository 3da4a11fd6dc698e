// The real server, as a process, and a bad network before it. What is started here ends with the test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer, connect } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The program: the one that `TIDEGATE_PROGRAM` names, or the release build of this tree. */
export const PROGRAM = process.env.TIDEGATE_PROGRAM ?? fileURLToPath(new URL("../../../target/release/tidegate", import.meta.url));

/** Whether tests with the real server can run. In CI they have to. */
export const skip = existsSync(PROGRAM) || process.env.CI == "true" ? false : `${PROGRAM} is not built`;

/** The server. `settings` are those of docs/settings.md in upper case. */
export class Server {
  /** @param {import("node:test").TestContext} t */
  static async start(t, settings = {}, args = []) {
    const server = new Server();
    server.settings = { LISTEN: "127.0.0.1:0", ADMIN_LISTEN: "off", LOG_LEVEL: "warn", ...settings };
    server.args = args;
    await server.begin();
    t.after(() => server.kill());
    return server;
  }

  async begin() {
    const env = Object.fromEntries(Object.entries(this.settings).map(([name, value]) => [`TIDEGATE_${name}`, value]));
    this.child = spawn(PROGRAM, this.args, { env, stdio: ["ignore", "pipe", "inherit"] });
    this.exited = once(this.child, "exit");
    for await (const line of createInterface({ input: this.child.stdout })) {
      const port = /is listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
      if (!port) continue;
      this.port = Number(port);
      this.child.stdout.resume();
      return;
    }
    throw Error("the server did not start");
  }

  get url() {
    return `http://127.0.0.1:${this.port}/api/v1/sse`;
  }

  /** Ends it as a crash would. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.exited;
  }

  /** Ends it as an operator would. */
  async drain() {
    this.child.kill("SIGTERM");
    await this.exited;
  }

  /** Starts it again at the same port. */
  async again(settings = {}) {
    this.settings = { ...this.settings, ...settings, LISTEN: `127.0.0.1:${this.port}` };
    await this.begin();
  }
}

/** A network that cuts connections. */
export class Network {
  /** @param {import("node:test").TestContext} t */
  static async before(t, server) {
    const network = new Network();
    network.server = server;
    network.listener = createServer((browser) => network.pass(browser));
    network.listener.listen(0, "127.0.0.1");
    await once(network.listener, "listening");
    t.after(() => {
      network.listener.close();
      network.cut();
    });
    return network;
  }

  /** Open connections, each as a function that cuts it. */
  open = new Set();
  /** Connections so far. */
  count = 0;
  /** After how many bytes of answer the next connections are cut. @type {number[]} */
  plan = [];
  isDown = false;

  pass(browser) {
    browser.on("error", () => {});
    if (this.isDown) return browser.resetAndDestroy();
    this.count++;
    const server = connect(this.server.port, "127.0.0.1");
    let left = this.plan.shift() ?? Infinity;
    const end = (how = "destroy") => {
      this.open.delete(end);
      browser[how]();
      server.destroy();
    };
    this.open.add(end);
    server.on("error", () => end()).on("close", () => end("end"));
    browser.on("close", () => end());
    browser.on("data", (bytes) => server.write(bytes));
    server.on("data", (bytes) => {
      const part = bytes.subarray(0, left);
      left -= part.length;
      browser.write(part);
      if (left <= 0) end("destroySoon");
    });
  }

  /** Cuts what is open now. */
  cut() {
    for (const end of [...this.open]) end("resetAndDestroy");
  }

  get url() {
    return `http://127.0.0.1:${this.listener.address().port}/api/v1/sse`;
  }
}

/** The longest wait before a test gives up. */
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000);

/** Waits until `is` is true. Only a failure takes long. */
export async function until(what, is, instead = () => "") {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await is();
    if (found) return found;
    if (Date.now() > deadline) throw Error(`waited for ${what}, have ${JSON.stringify(await instead())}`);
    await new Promise((next) => setTimeout(next, 15));
  }
}
