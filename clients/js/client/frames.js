/**
 * Frames on their way: read from an answer, and made into bytes again, for what stands between a server and a reader.
 */

import { parser } from "./parser.js";

/** @typedef {import("./parser.js").Frame} Frame */

const encoder = new TextEncoder();

/** @param {Frame} frame */
export function encode(frame) {
  /** @type {[string, any][]} */
  const fields = Object.entries(frame);
  const lines = fields.flatMap(([name, value]) => value.split("\n").map((/** @type {string} */ line) => name + ": " + line));
  return encoder.encode(lines.join("\n") + "\n\n");
}

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
