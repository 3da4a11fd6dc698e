/**
 * From bytes to frames: the event stream format of WHATWG HTML §9.2.6, with the field `room` added.
 *
 * Unlike `EventSource` it also gives frames without data, because a heartbeat moves the cursor.
 */

/**
 * What stood between two blank lines. A field that is missing was not sent.
 *
 * @typedef {object} Frame
 * @property {string} [event]
 * @property {string | null} [id]
 * @property {string} [data] its lines, joined by LF
 * @property {string | null} [room]
 * @property {string} [retry] milliseconds, if it is a number
 * @property {"stream" | "poll" | "tab"} [via] how it came, if something stands between server and reader
 */

/** Characters of one frame. The server's events have 16 MiB at most, so more is no event stream. */
const CHARACTERS_MAX = 1 << 25;

/**
 * A function that takes the next bytes of one stream and gives the frames that they complete. What a stream ends in the
 * middle of is never given.
 *
 * @returns {(bytes: Uint8Array) => Generator<Frame, void>} throws `RangeError` at a frame past {@link CHARACTERS_MAX}
 */
export function parser() {
  // Takes a byte order mark off the beginning, and keeps a character that is cut for the next bytes.
  const decoder = new TextDecoder();
  /** @type {Record<string, string>} */
  let frame = {};
  let line = "";
  let size = 0;
  let endsWithCr = false;

  return function* (bytes) {
    let text = decoder.decode(bytes, { stream: true });
    if (!text) return;
    // The LF of a CRLF that was cut in two ends no second line.
    if (endsWithCr && text[0] == "\n") text = text.slice(1);
    endsWithCr = text.endsWith("\r");
    size += text.length;
    // Only new text is searched: a long line in small pieces would otherwise take quadratic time.
    const lines = text.split(/\r\n|[\r\n]/);
    lines[0] = line + lines[0];
    line = /** @type {string} */ (lines.pop());
    for (const whole of lines) {
      if (whole) {
        // Comments have an empty name. They and unknown fields do no harm here.
        const [, name, value] = /** @type {string[]} */ (/^([^:]*):? ?([^]*)/.exec(whole));
        if (name == "data" && frame.data != null) frame.data += "\n" + value;
        // By the standard an id with NUL is no id.
        else if (name != "id" || !value.includes("\0")) frame[name] = value;
      } else {
        const complete = frame;
        frame = {};
        size = line.length;
        yield complete;
      }
    }
    if (size > CHARACTERS_MAX) throw RangeError("frame");
  };
}
