/**
 * Answers of language models, read while they are written. Whoever comes later, or comes back, gets what there is so far from
 * the room's history, so the history has to hold a whole answer (`history_events`, `history_bytes`).
 */

import { connect, publish } from "../client.js";
import { send } from "./request.js";

/**
 * How an answer ended: `done`, with the data of that event; `stopped` by `stop()`; `gap` if a part is missing, with what
 * the gap says; or `closed`, if the stream was, with why.
 *
 * @typedef {{ reason: "done" | "stopped" | "gap" | "closed", detail?: any }} Closed
 */

/**
 * The pieces of text, which throw at a gap. `stop` publishes the event `stop` to the room, for whoever writes the answer,
 * and ends the reading.
 *
 * @typedef {AsyncIterable<string> & { closed: Promise<Closed>, stop: () => Promise<unknown> }} Answer
 */

/** @typedef {Omit<import("./stream.js").Options, "rooms" | "parse" | "token"> & { token?: string, room: string }} Asked */

/** Parts that end an answer. */
const ENDS = /^(finish|error|abort)$/;

/**
 * @param {string} url
 * @param {string} room
 * @param {object} options
 */
const askToStop = (url, room, options) => publish(url, { room, event: "stop", data: true, store: false }, options);

/**
 * Reads an answer that has a room for itself: its text comes in events `token`, and `done` is its end.
 *
 * @param {string} url the server's base path or URL
 * @param {Asked} options
 * @returns {Answer}
 */
export function readStream(url, { room, ...options }) {
  const stream = connect({ history: 1e6, ...options, url, rooms: room, parse: "text" });
  // As many as the history may have: an answer that is longer than what is read of it at once has no gap.
  const events = stream.events(undefined, { max: 1e6 });
  /** @type {(closed: Closed) => void} */
  let settle;
  /** @type {Promise<Closed>} */
  const closed = new Promise((resolve) => (settle = resolve));
  /** @param {Closed["reason"]} reason @param {any} [detail] */
  const end = (reason, detail) => {
    settle({ reason, detail });
    stream.close();
  };
  for (const type of /** @type {const} */ (["done", "gap"])) stream.on(type, ({ data }) => end(type, data));
  stream.watch(({ state, reason }) => state == "closed" && settle({ reason: "closed", detail: reason }));
  return {
    closed,
    stop: () => {
      end("stopped");
      return askToStop(url, room, options);
    },
    async *[Symbol.asyncIterator]() {
      for await (const { type, data } of events) {
        if (type == "gap") throw Error("gap");
        if (type == "token") yield data;
      }
    },
  };
}

/**
 * A chat transport for the AI SDK (`useChat({ transport })`). The application's backend writes the parts of a UI message
 * stream to the room that has the chat's id, each as an event `chunk`; this reads them, and goes on after a reload.
 *
 * @param {string} url the server's base path or URL
 * @param {Omit<Asked, "room"> & { send: (request: any) => unknown }} options `send` asks the backend for an answer. It gets
 *   what `sendMessages` gets
 */
export function chatTransport(url, { send: begin, ...options }) {
  /**
   * @param {string} room
   * @param {any[]} first chunks that are there already
   * @param {string} [since] where to go on
   * @param {any} [asked] what to ask for once the stream is open
   */
  const read = (room, first, since, asked) => {
    asked?.abortSignal?.throwIfAborted();
    const stream = connect({ ...options, url, rooms: room, since });
    return new ReadableStream({
      start(out) {
        /** Throws after the end, and after `cancel`. @param {any} chunk */
        const put = (chunk) => {
          out.enqueue(chunk);
          if (!ENDS.test(chunk.type)) return;
          stream.close();
          out.close();
        };
        /** @param {unknown} why */
        const fail = (why) => put({ type: "error", errorText: "" + why });
        first.map(put);
        stream.on("chunk", ({ data }) => put(data));
        stream.on("gap", () => fail("gap"));
        stream.watch(({ state, reason }) => {
          if (state == "closed" && reason) fail(reason);
          // Only now: what is published from here on is for this stream.
          if (state == "open" && asked) Promise.resolve(asked).then(begin).catch(fail).catch(() => {}), (asked = 0);
        });
        asked?.abortSignal?.addEventListener("abort", () =>
          // What is over is not stopped.
          Promise.resolve({ type: "abort" }).then(put).then(() => askToStop(url, room, options)).catch(() => {}),
        );
      },
      cancel: stream.close,
    });
  };

  return {
    /** @param {any} asked */
    sendMessages: async (asked) => read(asked.chatId, [], undefined, asked),

    /** The answer that is being written, from its beginning; `null` if there is none. @param {{ chatId: string }} chat */
    async reconnectToStream({ chatId }) {
      /** @type {any[]} */
      let parts = [];
      let since;
      /** @type {string | false} */
      let before = "";
      let start;
      // From the newest page back to where the answer begins.
      do {
        const path = `/rooms/${encodeURIComponent(chatId)}/history?limit=1000${before}`;
        /** @type {any} */
        const page = await (await send({ ...options, url }, path, options.token)).json();
        before = page.has_more && "&before=" + page.before;
        const chunks = page.events.filter((/** @type {any} */ { event }) => event == "chunk");
        since ??= chunks.at(-1)?.id;
        parts = [...chunks.map((/** @type {any} */ { data }) => JSON.parse(data)), ...parts];
        start = parts.findLastIndex(({ type }) => type == "start");
      } while (before && start < 0);
      parts = parts.slice(start);
      return start < 0 || parts.some(({ type }) => ENDS.test(type)) ? null : read(chatId, parts, since);
    },
  };
}
