/**
 * Frames on their way: from the bytes of an answer, or from what stands between a server and a reader.
 */

import { parser } from "./parser.js";

/** @typedef {import("./parser.js").Frame} Frame */

/**
 * The frames of one answer, in the groups that they come in. A group without frames says that bytes came.
 *
 * @param {{ body: any }} answer
 * @returns {AsyncGenerator<Iterable<Frame>, void>}
 */
export async function* read({ body }) {
  const parse = parser();
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    // What stands between server and reader gives whole frames.
    yield value.length ? parse(value) : [value];
  }
}
