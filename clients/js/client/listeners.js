/**
 * Who listens to a stream: functions that are called, and asynchronous iterators with a bounded queue.
 */

/**
 * One event.
 *
 * @template [D=any]
 * @typedef {object} Message
 * @property {string} type its name; `message` if the publisher gave none
 * @property {D} data
 * @property {string | null} id its place in the order. The server's own events may have none
 * @property {string | null} room the room that it is from; `null` for the inbox, broadcasts and the server's own events
 */

/** Names of the server's own events. */
const OWN = /^(connected|gap|replayed|overload|closing|expiring|presence|muted|stale)$/;

/** @param {string} type */
export const isOwn = (type) => OWN.test(type);

/** Whether the server ends a stream with it. @param {string | undefined} type */
export const isLast = (type) => /^(overload|closing)$/.test(/** @type {string} */ (type));

/**
 * Whether a message is for somebody who asks for `type` and `room`. Of the server's own events only `gap` is for those who
 * ask for no type: nobody may miss that something is missing.
 *
 * @param {Message} message
 * @param {string} [type]
 * @param {string} [room]
 */
export const isFor = (message, type, room) =>
  (type ? message.type == type : message.type == "gap" || !isOwn(message.type)) && (room ?? message.room) == message.room;

/**
 * Calls `then` when `signal` is aborted, or now if it is already.
 *
 * @param {AbortSignal | undefined} signal
 * @param {() => void} then
 */
export function onAbort(signal, then) {
  if (signal?.aborted) then();
  else signal?.addEventListener("abort", then);
}

/**
 * A list of functions that are called with the same value. One that throws does not keep the value from the others.
 *
 * @template T
 * @param {(error: unknown) => void} fault is told what they throw
 */
export function callers(fault) {
  /** @type {Set<(value: T) => unknown>} */
  const all = new Set();
  return {
    /** @param {(value: T) => unknown} one */
    add(one) {
      all.add(one);
      return () => all.delete(one);
    },
    /** @param {T} value */
    call(value) {
      for (const one of [...all]) {
        try {
          one(value);
        } catch (error) {
          fault(error);
        }
      }
    },
  };
}

/**
 * The iterator of one reader. It collects from now on, also while nobody asks for the next.
 *
 * @param {ReturnType<typeof callers<Message>>} messages
 * @param {ReturnType<typeof callers<{ state: string }>>} states a stream that is closed ends its iterators
 * @param {Set<string>} rooms
 * @param {boolean} isOver whether the stream is closed already
 * @param {string} [type]
 * @param {{ signal?: AbortSignal, max?: number }} [options]
 * @returns {AsyncIterableIterator<Message>}
 */
export function iterate(messages, states, rooms, isOver, type, { signal, max = 1000 } = {}) {
  /** @type {Message[]} */
  let queue = [];
  /** @type {Message | undefined} the last one that was given */
  let last;
  /** @type {((value?: any) => void) | undefined} */
  let wake;
  const off = messages.add((message) => {
    if (message.type != "gap" && !isFor(message, type)) return;
    queue.push(message);
    if (queue.length > max) {
      // Whoever iterates is slower than the stream. What does not fit becomes a gap, as it does on the server.
      const data = { rooms: [...rooms], inbox: true, all: true, from: last?.id ?? "", to: message.id ?? "", reason: "slow" };
      queue = [{ type: "gap", data, id: message.id, room: null }];
    }
    wake?.();
  });
  const end = () => {
    isOver = true;
    off();
    forget();
    wake?.();
  };
  const forget = states.add(({ state }) => state == "closed" && end());
  onAbort(signal, end);
  return (async function* () {
    try {
      while (queue[0] || !isOver) {
        if (queue[0]) yield (last = /** @type {Message} */ (queue.shift()));
        else await new Promise((go) => (wake = go));
      }
    } finally {
      end();
    }
  })();
}
