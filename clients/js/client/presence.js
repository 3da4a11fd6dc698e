/**
 * Who is there (docs/presence.md): the members of one room, kept up to date by a stream with `presence: true`.
 */

import { callers } from "./listeners.js";
import { send } from "./request.js";

/**
 * What is known of a room. A new object at each change.
 *
 * @template [D=any] what members show
 * @typedef {object} Presence
 * @property {ReadonlyMap<string, D | undefined>} members by user, each with what it shows. Empty while only numbers are known
 * @property {number} total how many members there are, named or not
 * @property {number} connections
 * @property {boolean} isNamed whether `members` is all of them
 */

/** Nothing is known yet. @type {Presence} */
export const NOBODY = { members: new Map(), total: 0, connections: 0, isNamed: false };

/**
 * Follows who is in `room`.
 *
 * @template [D=any]
 * @param {Pick<import("./stream.js").Stream<any>, "on">} stream opened with `presence: true`
 * @param {string} room
 * @returns {{ current: Presence<D>, watch: (watcher: (presence: Presence<D>) => void) => () => void, close: () => void }}
 */
export function presence(stream, room) {
  let current = NOBODY;
  /** @type {ReturnType<typeof callers<Presence>>} */
  const watchers = callers(console.error);
  const close = stream.on(
    "presence",
    ({ data: { type, total, connections, members = [], join = [], update = [], leave = [] } }) => {
      // A state and a count begin anew; a diff says what is different. It may repeat what a state has said.
      const all = new Map(type == "diff" ? current.members : []);
      for (const { user, data } of [...members, ...join, ...update]) all.set(user, data);
      for (const user of leave) all.delete(user);
      current = { members: all, total, connections, isNamed: type != "count" };
      watchers.call(current);
    },
    { room },
  );
  return {
    get current() {
      return current;
    },
    watch: watchers.add,
    close,
  };
}

/**
 * Shows `data` to all who see the members of `room`: at most 1,024 bytes of JSON, five times at once and then once a
 * second. `null` takes it back.
 *
 * @param {string} url the server's base path or URL, such as `/api/v1/sse`
 * @param {string} room
 * @param {unknown} data
 * @param {Omit<import("./request.js").Reach, "url"> & { token?: string, signal?: AbortSignal }} [options]
 * @returns {Promise<{ room: string, user: string, rev: number }>} rejects with a `TidegateError` if the server refuses
 */
export async function show(url, room, data, { token, signal, ...reach } = {}) {
  const path = "/presence/" + encodeURIComponent(room);
  return (await send({ ...reach, url }, path, token, { method: "PUT", body: { data }, signal })).json();
}

/**
 * Ends the user's membership of `room` at once, although its streams stay.
 *
 * @param {string} url
 * @param {string} room
 * @param {Omit<import("./request.js").Reach, "url"> & { token?: string, signal?: AbortSignal }} [options]
 */
export async function hide(url, room, { token, signal, ...reach } = {}) {
  await send({ ...reach, url }, "/presence/" + encodeURIComponent(room), token, { method: "DELETE", signal });
}
