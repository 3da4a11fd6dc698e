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

/** What whoever writes an answer is told to stop with. */
const STOP = { event: "stop", data: true, store: false };

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
  const events = stream.events("token", { max: 1e6 });
  /** @type {Closed | undefined} */
  let how;
  /** @param {{ type: any, data?: any }} why */
  const end = ({ type: reason, data: detail }) => {
    how = { reason, detail };
    stream.close();
  };
  stream.on("done", end);
  stream.on("gap", end);
  /** @type {Promise<Closed>} */
  const closed = new Promise((settle) =>
    stream.watch(({ state, reason: detail }) => state == "closed" && settle(how ?? { reason: state, detail })),
  );
  return {
    closed,
    stop: () => {
      end({ type: "stopped" });
      return publish(url, { room, ...STOP }, options);
    },
    async *[Symbol.asyncIterator]() {
      for await (const { type, data } of events) {
        if (type == "gap") throw Error(type);
        yield data;
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
   * @param {any} asked
   * @param {any} [parts] chunks that are there already. Without them it asks for an answer, and has its question here
   * @param {string} [since] where to go on
   */
  const read = async (asked, parts, since) => {
    asked.abortSignal?.throwIfAborted();
    const stream = connect({ ...options, url, rooms: asked.chatId, since });
    return new ReadableStream({
      start(out) {
        /** Rejects after the end, and after `cancel`. @param {any} chunk */
        const put = async (chunk) => {
          out.enqueue(chunk);
          if (!ENDS.test(chunk?.type)) return;
          stream.close();
          out.close();
        };
        /** @param {unknown} why */
        const fail = (why) => put({ type: "error", errorText: "" + why });
        parts?.map(put);
        stream.on("chunk", ({ data }) => put(data));
        stream.on("gap", () => fail("gap"));
        stream.watch(({ state, reason }) => state == "closed" && reason && fail(reason));
        // Only now: what is published from here on is for this stream. And only once.
        stream.on("connected", () => (parts ??= (async () => begin(asked))().catch(fail).catch(() => {})));
        // What is over is not stopped.
        asked.abortSignal?.addEventListener("abort", () =>
          put({ type: "abort" })
            .then(() => publish(url, { room: asked.chatId, ...STOP }, options))
            .catch(() => {}),
        );
      },
      cancel: stream.close,
    });
  };

  return {
    /** @type {(asked: any) => Promise<ReadableStream>} */
    sendMessages: read,

    /** The answer that is being written, from its beginning; `null` if there is none. @param {{ chatId: string }} chat */
    async reconnectToStream(chat) {
      /** @type {any[]} */
      const parts = [];
      let since;
      let before = "";
      // From the newest chunk back to where the answer begins.
      for (;;) {
        const page = await (
          await send(
            { ...options, url },
            "/rooms/" + encodeURIComponent(chat.chatId) + "/history?limit=1000" + before,
            options.token,
          )
        ).json();
        for (const { id, event, data } of page.events.reverse()) {
          const chunk = event == "chunk" && JSON.parse(data);
          if (!chunk) continue;
          if (ENDS.test(chunk.type)) return null;
          since ??= id;
          parts.unshift(chunk);
          if (chunk.type == "start") return read(chat, parts, since);
        }
        if (!page.before) return null;
        before = "&before=" + page.before;
      }
    },
  };
}
