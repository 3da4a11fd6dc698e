/**
 * Hooks for React 18 and 19. A stream opens when its component is mounted, and closes with it; on a server none opens.
 */

import { useEffect, useRef, useState } from "react";

import { connect } from "../client.js";
import { NOBODY, presence } from "./presence.js";

/** @typedef {import("./stream.js").Status} Status */

/**
 * A stream for as long as the component lives. Options that are functions are always the newest; when another option
 * changes, a new stream takes the place of the old one.
 *
 * @template {Record<string, any>} [E=Record<string, any>]
 * @param {import("./stream.js").Options} options
 * @returns {import("./stream.js").Stream<E> | undefined} `undefined` before the component is mounted
 */
export function useStream(options) {
  const newest = useRef(/** @type {Record<string, any>} */ (options));
  newest.current = options;
  const [stream, put] = useState();
  useEffect(
    () => {
      /** @type {Record<string, any>} */
      const lasting = { ...options };
      for (const name in lasting) {
        if (lasting[name]?.call) lasting[name] = (/** @type {any} */ one, /** @type {any} */ two) => newest.current[name](one, two);
      }
      const opened = connect(lasting);
      put(/** @type {any} */ (opened));
      return opened.close;
    },
    // Functions are not in it, and so are no reason for a new stream; nor is what a storage holds.
    [JSON.stringify({ ...options, keep: 0 })],
  );
  return stream;
}

/**
 * Calls `listener` for each event of `type` while the component is mounted. It is always the newest function.
 *
 * @template {Record<string, any>} E
 * @template {keyof E & string} K
 * @param {import("./stream.js").Stream<E> | undefined} stream
 * @param {K} type
 * @param {(message: import("./listeners.js").Message<E[K]>) => void} listener
 * @param {{ room?: string }} [options]
 */
export function useEvent(stream, type, listener, options) {
  const newest = useRef(listener);
  newest.current = listener;
  useEffect(() => stream?.on(type, (message) => newest.current(message), options), [stream, type, options?.room]);
}

/**
 * The state of a stream.
 *
 * @param {import("./stream.js").Stream<any> | undefined} stream
 * @returns {Status | undefined} `undefined` without a stream
 */
export function useStatus(stream) {
  const [now, put] = useState(stream?.status);
  useEffect(() => {
    put(stream?.status);
    return stream?.watch(put);
  }, [stream]);
  return now;
}

/**
 * Who is in `room`, on a stream with `presence: true`.
 *
 * @template [D=any]
 * @param {import("./stream.js").Stream<any> | undefined} stream
 * @param {string} room
 * @returns {import("./presence.js").Presence<D>}
 */
export function usePresence(stream, room) {
  const [now, put] = useState(NOBODY);
  useEffect(() => {
    put(NOBODY);
    const followed = stream && presence(stream, room);
    followed?.watch(put);
    return followed?.close;
  }, [stream, room]);
  return now;
}
