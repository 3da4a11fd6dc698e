/**
 * Publishing: one request, and what the server says of it.
 */

import { send } from "./request.js";

/**
 * An event to publish. It goes to one of `room`, `user` and `all`. docs/api.md explains each member.
 *
 * @typedef {object} Draft
 * @property {string} [room]
 * @property {string} [user]
 * @property {true} [all]
 * @property {string} [event]
 * @property {unknown} data any JSON
 * @property {string} [id]
 * @property {string} [exclude]
 * @property {string} [require]
 * @property {string} [key]
 * @property {number} [version]
 * @property {boolean} [store]
 * @property {string} [once]
 */

/**
 * What became of it. A batch has the number of its events as `published`, and of those left out as `replayed` and `skipped`.
 *
 * @typedef {object} Published
 * @property {string} [id] missing if all was left out
 * @property {number} [subscribers]
 * @property {string} [durability]
 * @property {number} [published]
 * @property {number} [replayed]
 * @property {number | true} [skipped]
 */

/**
 * Publishes one event, or several as a batch.
 *
 * If no answer comes, nobody knows whether the events went out. With a `key`, call it again with the same events and the
 * same key, as often as you like: they go out once.
 *
 * @param {string} url the server's base path or URL, such as `/api/v1/sse`
 * @param {Draft | Draft[]} events
 * @param {Omit<import("./request.js").Reach, "url"> & { token?: string, key?: string, signal?: AbortSignal }} [options]
 * @returns {Promise<Published>} rejects with a `TidegateError` if the server refuses
 */
export async function publish(url, events, { token, key, signal, ...reach } = {}) {
  const headers = key && { "idempotency-key": key };
  return (await send({ ...reach, url }, "/publish", token, { signal, body: events, headers })).json();
}
