/**
 * Long polling, for networks that hold streams back: polls, one after the other, that look like one stream.
 *
 * Loaded only when it is needed. To those who read it, it is `send`: the same request, and an answer that goes on.
 */

import { read } from "./frames.js";
import { isLast } from "./listeners.js";
import { send } from "./request.js";
import { TICK_MS } from "./timing.js";

/** How long a poll waits for an event. The first is short, so that the stream is soon open. */
const FIRST_POLL_S = 1;
const POLL_S = 25;

/**
 * @param {import("./request.js").Reach} reach
 * @param {string} path
 * @param {string | null | undefined} token
 * @param {{ signal: AbortSignal }} attempt
 * @param {number} ends when a stream is tried again
 */
export default async function poll(reach, path, token, { signal }, ends) {
  const query = new URLSearchParams(path.split("?")[1]);
  /** @param {number} seconds */
  const ask = (seconds) => {
    query.set("poll", "" + seconds);
    return send(reach, "/stream?" + query, token, { signal });
  };

  /** @param {Response} polled */
  const frames = async function* (polled) {
    for (let isFirst = true; ; isFirst = false) {
      const began = Date.now();
      let isOver = false;
      for await (const all of read(polled)) {
        for (const frame of all) {
          // Where the next poll goes on.
          if (frame.id) query.set("last_event_id", frame.id);
          isOver ||= isLast(frame.event);
          // The stream is opened once. After that, an answer shows that it lives.
          yield isFirst || frame.event != "connected" ? { ...frame, via: "poll" } : { id: frame.id ?? "" };
        }
      }
      if (isOver || Date.now() >= ends) return;
      // Events that come one after the other share a poll.
      await new Promise((next) => setTimeout(next, began + TICK_MS - Date.now()));
      signal.throwIfAborted();
      polled = await ask(POLL_S);
      // The user has been told to stay away: the next attempt hears of it.
      if (!polled.body) return;
    }
  };

  const polled = await ask(FIRST_POLL_S);
  if (!polled.body) return polled;
  const all = frames(polled);
  /** @type {UnderlyingDefaultSource} */
  const source = {
    async pull(out) {
      const { done, value } = await all.next();
      if (done) out.close();
      else out.enqueue(value);
    },
  };
  // No `Response`: the chunks of its body would have to be bytes.
  return { headers: polled.headers, body: new ReadableStream(source, { highWaterMark: 0 }) };
}
