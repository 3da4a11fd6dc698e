/**
 * Where a stream is: what an id says about the order, and how a cursor outlives a reload.
 */

/**
 * An id that is a position in the order, taken apart: `[id, epoch, offset]`. Ids that publishers chose never look like one.
 *
 * @param {string | null | undefined} id
 */
export const position = (id) => /^([a-z0-9]{6})-(\d+)$/.exec(/** @type {string} */ (id));

/** @typedef {ReturnType<typeof position>} Position */

/**
 * Whether `one` is at or below `other`. `false` if either is no position, or if they are of two epochs, because nothing can
 * be said then.
 *
 * @param {any} one a {@link Position}
 * @param {any} other
 * @returns {boolean}
 */
export const isPast = (one, other) => one?.[1] == other?.[1] && +one?.[2] <= +other?.[2];

/** @typedef {Pick<Storage, "getItem" | "setItem">} Store */

/**
 * Lets `use` do something with the storage for cursors. A browser may refuse storage, or be out of space: then a reload
 * begins anew, and nothing else is different.
 *
 * @template T
 * @param {boolean | { storage?: Store } | undefined} keep
 * @param {(store: Store) => T} use
 */
export function withStore(keep, use) {
  try {
    return keep && use(/** @type {{ storage?: Store }} */ (keep).storage ?? sessionStorage);
  } catch {}
}
