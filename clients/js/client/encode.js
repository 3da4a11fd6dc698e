/**
 * From a frame back to bytes, for what stands between a server and a reader.
 */

const encoder = new TextEncoder();

/** @param {import("./parser.js").Frame} frame */
export function encode(frame) {
  /** @type {[string, string][]} */
  const fields = Object.entries(frame);
  const lines = fields.flatMap(([name, value]) => value.split("\n").map((line) => name + ": " + line));
  return encoder.encode(lines.join("\n") + "\n\n");
}

/**
 * An answer whose body has what `frames` gives, when it is asked for it.
 *
 * @param {Response} head the answer whose status and headers it has
 * @param {AsyncGenerator<import("./parser.js").Frame, void>} frames
 */
export function answer({ status, headers }, frames) {
  const body = new ReadableStream(
    {
      async pull(out) {
        const { done, value } = await frames.next();
        if (done) out.close();
        else out.enqueue(encode(value));
      },
      cancel: () => void frames.return(),
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { status, headers });
}
