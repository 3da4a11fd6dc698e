/**
 * Frames on their way, for what stands between a server and a reader: long polling, and tabs.
 */

import { parser } from "./parser.js";

/** @typedef {import("./parser.js").Frame} Frame */

/**
 * The frames of one answer.
 *
 * @param {Response} answer
 * @returns {AsyncGenerator<Frame, void>}
 */
export async function* read(answer) {
  const parse = parser();
  const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield* parse(value);
  }
}
