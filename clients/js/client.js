/**
 * Tidegate's client: listen with {@link connect}, publish with {@link publish}. Plain ES modules without dependencies.
 *
 * This file and those in `client/` are what ships, and the server serves them as they are: `client.js` and its relative
 * imports are all that a page needs to listen. `client/tabs.js` is loaded by `tabs: true`; a page imports
 * `client/presence.js` and `client/ai.js` itself. `client/react.js` and `client/vue.js` need a bundler.
 *
 * @module
 */

/**
 * @typedef {import("./client/stream.js").Gap} Gap
 * @typedef {import("./client/stream.js").Why} Why
 * @typedef {import("./client/stream.js").Status} Status
 * @typedef {import("./client/stream.js").Options} Options
 * @typedef {import("./client/request.js").TidegateError} TidegateError
 * @typedef {import("./client/publish.js").Draft} Draft
 * @typedef {import("./client/publish.js").Published} Published
 */
/** @template [D=any] @typedef {import("./client/listeners.js").Message<D>} Message */
/** @template {Record<string, any>} [E=Record<string, any>] @typedef {import("./client/stream.js").Stream<E>} Stream */

export { connect } from "./client/stream.js";
export { publish } from "./client/publish.js";
