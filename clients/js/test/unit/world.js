// The world of a stream, without a network and without a clock: a stand-in `fetch` whose answers a test writes, and mocked
// timers. Nothing here waits for real time.

import { mock } from "node:test";

import { connect } from "../../client.js";

/** What a browser has, and Node has not: `document`, `window`'s events, and whether there is a network. */
class Page extends EventTarget {
  visibilityState = "visible";
}

export class World {
  /** Requests so far, oldest first. @type {Request[]} */
  requests = [];
  random = 0.5;
  page = new Page();
  onLine = true;

  constructor(t) {
    mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
    t.mock.method(Math, "random", () => this.random);
    const before = new Map();
    const put = (name, value) => {
      before.set(name, Object.getOwnPropertyDescriptor(globalThis, name));
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    };
    const { page } = this;
    put("document", page);
    put("addEventListener", page.addEventListener.bind(page));
    put("removeEventListener", page.removeEventListener.bind(page));
    put("sessionStorage", new Store());
    const world = this;
    put("navigator", {
      get onLine() {
        return world.onLine;
      },
    });
    t.after(() => {
      for (const stream of this.streams) stream.close();
      mock.timers.reset();
      for (const [name, was] of before) {
        if (was) Object.defineProperty(globalThis, name, was);
        else delete globalThis[name];
      }
    });
  }

  streams = [];

  /** Opens a stream in this world. */
  connect(options = {}) {
    const stream = connect({ rooms: "a", user: "u", fetch: this.fetch, ...options });
    this.streams.push(stream);
    return stream;
  }

  fetch = (url, init = {}) => {
    const request = new Request(url, init);
    this.requests.push(request);
    return request.answer;
  };

  get last() {
    return this.requests.at(-1);
  }

  /** Something happens to the page. */
  async happens(type) {
    this.page.dispatchEvent(new Event(type));
    // What is due now happens.
    await this.pass(1);
  }

  /** The page is hidden or seen. */
  async turns(visibilityState) {
    this.page.visibilityState = visibilityState;
    await this.happens("visibilitychange");
  }

  /** Time passes. What is due happens in its order, and what follows from it is waited for. */
  async pass(ms) {
    await settled();
    // In steps, so that a timer that is set by what a timer did runs at its time.
    for (let left = ms; left > 0; left -= 250) {
      mock.timers.tick(Math.min(left, 250));
      await settled();
    }
  }

  /** The computer sleeps: the time goes on, and timers run only after it wakes. */
  sleeps(ms) {
    mock.timers.setTime(Date.now() + ms);
  }
}

/** One request, and what becomes of it. */
export class Request {
  constructor(url, init) {
    this.url = url;
    this.init = init;
    const [path, query] = url.split("?");
    this.path = path;
    this.query = new URLSearchParams(query);
    this.headers = init.headers;
    this.answer = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.answer.catch(() => {});
    init.signal?.addEventListener("abort", () => {
      this.reject(init.signal.reason);
      this.body?.error(init.signal.reason);
    });
  }

  get isAborted() {
    return !!this.init.signal?.aborted;
  }

  /** The server says yes, and nothing more yet. */
  async opens(headers = { "content-type": "text/event-stream" }) {
    const stream = new ReadableStream({ start: (body) => void (this.body = body) });
    this.resolve(new Response(stream, { headers }));
    await settled();
  }

  /** The server answers with a status, and perhaps with a problem. */
  async refuses(status, code, headers = {}) {
    const body = status == 204 ? null : code ? JSON.stringify({ code, title: `it is ${code}`, status }) : "<html>";
    this.resolve(new Response(body, { status, headers }));
    await settled();
  }

  /** There is no answer. */
  async fails() {
    this.reject(new TypeError("fetch failed"));
    await settled();
  }

  /** Bytes come. */
  async sends(text) {
    if (!this.body) await this.opens();
    this.body.enqueue(typeof text == "string" ? new TextEncoder().encode(text) : text);
    await settled();
  }

  /** `connected` comes, and then `text`. */
  async connects(id = "k3v9q2-10", { retry = 3000, user = "u", rooms = ["a"], text = "" } = {}) {
    const data = JSON.stringify({ connection: "0.1.0", user, rooms });
    const at = id ? `id: ${id}\n` : "";
    await this.sends(`retry: ${retry}\nevent: connected\n${at}data: ${data}\n\n${text}`);
  }

  async ends() {
    this.body.close();
    await settled();
  }

  async breaks() {
    this.body.error(new TypeError("terminated"));
    await settled();
  }
}

/** An event as the server writes it. */
export const event = (id, data, { type, room = "a" } = {}) =>
  `${type ? `event: ${type}\n` : ""}id: ${id}\n${room ? `room: ${room}\n` : ""}data: ${data}\n\n`;

/** One of the server's own events. */
export const own = (type, data, id) => `event: ${type}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`;

export const gap = (to, more = {}) => own("gap", { rooms: ["a"], from: "", to, reason: "evicted", ...more }, to);

/** A storage that counts what is written. */
export class Store {
  entries = new Map();
  writes = 0;
  getItem(key) {
    return this.entries.get(key) ?? null;
  }
  setItem(key, value) {
    this.writes++;
    this.entries.set(key, value);
  }
}

/** Waits until nothing more follows from what has happened: promises and streams, and no timer. */
export async function settled() {
  for (let round = 0; round < 12; round++) await new Promise((next) => setImmediate(next));
}
