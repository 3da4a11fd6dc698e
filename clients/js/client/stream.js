/**
 * One stream: when to ask, what to make of the answer, when to ask again. The rules are in docs/client.md.
 *
 * There is at most one attempt at a time, and one timer. What finds another attempt than its own in `current` belongs to the
 * past and does nothing.
 */

import { isPast, position, withStore } from "./cursor.js";
import { read } from "./frames.js";
import { callers, isFor, isLast, isOwn, iterate, onAbort } from "./listeners.js";
import { send } from "./request.js";
import { POLLS_FOR_MS, SHORTS, TICK_MS, TIMER_MAX_MS } from "./timing.js";

/** @typedef {import("./parser.js").Frame} Frame */
/** @typedef {import("./listeners.js").Message} Message */

/**
 * Why a token is asked for: for a new attempt, because the open stream's token ends soon, or because the last one was
 * refused.
 *
 * @typedef {"connect" | "expiring" | "refused"} Why
 */

/**
 * Events of these rooms after `from`, up to `to`, may be missing; with `inbox` events to the user, with `all` broadcasts.
 *
 * @typedef {object} Gap
 * @property {string[]} rooms
 * @property {string} from
 * @property {string} to
 * @property {"evicted" | "restart" | "slow" | "unknown"} reason
 * @property {boolean} [inbox]
 * @property {boolean} [all]
 */

/**
 * @typedef {object} Status
 * @property {"idle" | "connecting" | "open" | "waiting" | "offline" | "closed"} state
 * @property {"stream" | "poll" | "tab"} via how the last stream came that was open
 * @property {number} attempt failures since the last stream that held
 * @property {number | null} retryAt when the next attempt is, in milliseconds since 1970
 * @property {string | null} reason why the state is not `open`: a word of the server's, or `network`, `timeout`, `cut`, `ended`, `token`,
 *   `content_type`, or the status of a refusal that says no more
 * @property {string | null} cursor the last id, always the present one
 * @property {string | null} connection the stream's name on the server
 * @property {string | null} user whose stream it is
 */

/**
 * @typedef {object} Extra
 * @property {string | string[]} [rooms]
 * @property {string} [user] unless the token names the user
 * @property {number} [history] begin with so many of the newest events
 * @property {string | null} [since] begin after this id
 * @property {string | ((why: Why) => string | null | undefined | Promise<string | null | undefined>)} [token]
 * @property {boolean | { storage?: import("./cursor.js").Store }} [keep] keep the cursor over a reload
 * @property {boolean} [tabs] one stream for all tabs of the browser
 * @property {"auto" | "stream" | "poll"} [transport]
 * @property {{ baseMs?: number, capMs?: number }} [backoff] 500 and 30,000 unless given
 * @property {number} [connectMs] how long the first byte may take: 10,000 unless given
 * @property {number} [staleMs] after what silence a stream counts as dead: twice the server's `heartbeat`, 50,000 unless given
 * @property {"json" | "text" | ((data: string, type: string) => unknown)} [parse]
 * @property {boolean} [presence] be told who is there, and be there
 * @property {AbortSignal} [signal] closes the stream
 * @property {(gap: Gap) => void | Promise<void>} [onGap] nothing more is read until it settles
 * @property {(error: any) => void} [onError] `console.error` for what listeners throw, unless given
 */

/** @typedef {import("./request.js").Reach & Extra} Options */

/**
 * @template {Record<string, any>} [E=Record<string, any>]
 * @typedef {object} Offer
 * @property {Status} status a new object at each change of its state
 * @property {<K extends keyof E & string>(type: K, listener: (message: import("./listeners.js").Message<E[K]>) => void,
 *   options?: { room?: string, signal?: AbortSignal }) => () => void} on
 * @property {(listener: (message: Message) => void) => () => void} onAny all but the server's own events; `gap` is among them
 * @property {(listener: (status: Status) => void) => () => void} watch calls at each change of {@link Status}
 * @property {<K extends keyof E & string>(type?: K, options?: { signal?: AbortSignal, max?: number }) =>
 *   AsyncIterableIterator<import("./listeners.js").Message<E[K]>>} events ends when the stream is closed; gives `gap`, too
 * @property {(...rooms: string[]) => void} join
 * @property {(...rooms: string[]) => void} leave
 * @property {() => void} reconnect asks again at once, also after the server has closed the stream
 * @property {() => void} close
 */

/**
 * A stream: what it offers, `for await`, and `await using`.
 *
 * @template {Record<string, any>} [E=Record<string, any>]
 * @typedef {Offer<E> & AsyncIterable<Message> & AsyncDisposable} Stream
 */

/**
 * Opens a stream. It begins with the next microtask, so that listeners that are added at once miss nothing, and a stream
 * that is closed at once sends nothing. It goes on until it is closed, by `close()` or by the server.
 *
 * @template {Record<string, any>} [E=Record<string, any>]
 * @param {Options} options
 * @returns {Stream<E>} `E` names the events, each with its data
 */
export function connect(options) {
  const { user, token, keep, history, transport = "auto", parse = "json", onGap, onError } = options;
  const { connectMs = 10_000, staleMs = 50_000, backoff: { baseMs = 500, capMs = 30_000 } = {} } = options;
  const provider = typeof token == "function" && token;
  const rooms = new Set([options.rooms ?? []].flat());
  const key = JSON.stringify(["tidegate", options.url, user, ...rooms]);

  /** @type {string | null} the last id */
  let cursor = null;
  /** @type {import("./cursor.js").Position | undefined} the last id that is a position */
  let seen;
  /** @type {AbortController | undefined} the attempt that is under way */
  let current;
  /** @type {string | undefined} why the server ends it */
  let farewell;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {number} */
  let heard;
  let notBefore = 0;
  let retryMs = 0;
  let failures = 0;
  let shorts = 0;
  let pollUntil = transport == "poll" ? Infinity : 0;
  let isSaved = true;

  /** @param {unknown} error */
  const fault = (error) => {
    try {
      (onError ?? console.error)(error);
    } catch {}
  };
  /** What the client mends by itself is told only to those who ask. @param {unknown} error */
  const fail = (error) => onError && fault(error);
  /** @type {ReturnType<typeof callers<Message>>} */
  const messages = callers(fault);

  // The state, and who watches it.

  /** @type {ReturnType<typeof callers<Status>>} */
  const watchers = callers(fault);
  /** @type {Status} */
  let status;
  /** @param {Partial<Status>} news */
  const change = (news) => {
    status = {
      ...status,
      attempt: failures,
      retryAt: null,
      reason: null,
      ...news,
      get cursor() {
        return cursor;
      },
    };
    watchers.call(status);
  };
  change({ state: "idle", via: "stream", connection: null, user: user ?? null });

  // The cursor.

  const save = () => {
    if (!isSaved) withStore(keep, (store) => store.setItem(key, /** @type {string} */ (cursor)));
    isSaved = true;
  };
  /** @param {string | null} id */
  const move = (id) => {
    if (!id) return;
    cursor = id;
    seen = position(id) ?? seen;
    isSaved = false;
  };

  // What comes.

  /**
   * Delivers one frame. The next one waits for this.
   *
   * @param {Frame} frame
   */
  const take = async ({ id = null, event: type = "message", data: text, room = null, retry, via = "stream" }) => {
    if (/^\d+$/.test(/** @type {string} */ (retry))) retryMs = +(/** @type {string} */ (retry));
    if (!isOwn(type) && isPast(position(id), seen)) return;
    const mine = current;
    const holds = type == "gap" && onGap;
    // First, because a listener may ask for the stream anew.
    if (!holds) move(id);
    if (text == null) return;
    /** @type {any} */
    let data = text;
    try {
      if (isOwn(type) || parse == "json") data = JSON.parse(text);
      else if (parse != "text") data = parse(text, type);
    } catch (error) {
      // A publisher's string goes out as its text, so what is no JSON is a string.
      if (parse != "json") fault(error);
    }
    if (type == "connected") {
      const { connection, user = null } = data;
      change({ state: "open", connection, user, via });
    }
    if (isLast(type)) farewell = data.reason;
    // If this fails, the stream ends with its token, and the next attempt asks for a new one.
    if (type == "expiring" && provider) ask(type).then(refresh).catch(fail);
    messages.call({ type, data, id, room });
    if (!holds) return;
    // Nothing more is read until the application has fetched its state. What comes meanwhile waits on its way, and the
    // server knows what to do with a slow reader. If the stream breaks meanwhile, the gap comes again.
    heard = Infinity;
    await Promise.resolve(data).then(onGap).catch(fault);
    if (mine != current) return;
    heard = Date.now();
    move(id);
  };

  /** @param {string | null | undefined} bearer */
  const refresh = (bearer) => send(options, "/refresh", bearer, { body: { connection: status.connection } });

  // When to ask.

  /** Ends what is under way: after this, nothing happens by itself. */
  const rest = () => {
    clearTimeout(timer);
    current?.abort();
    current = undefined;
    save();
  };

  /**
   * @param {number} ms
   * @param {() => void} then
   */
  const after = (ms, then) => {
    clearTimeout(timer);
    timer = setTimeout(then, Math.min(ms, TIMER_MAX_MS));
  };

  /** @param {Why} reason */
  const ask = async (reason) => (provider ? provider(reason) : /** @type {string | undefined} */ (token));

  /**
   * One attempt, in place of whatever is under way: asks at once, reads the answer to its end, and decides what follows.
   *
   * @param {Why} [why]
   */
  const go = (why = "connect") => {
    rest();
    if (page.signal.aborted) return;
    if (globalThis.navigator?.onLine === false) return change({ state: "offline" });
    const mine = (current = new AbortController());
    const polls = (heard = Date.now()) < pollUntil;
    let first = 0;
    let phase = "token";
    farewell = undefined;
    // A provider has longer each time, so that a slow one gets there, and one that hangs is asked again.
    after(connectMs * (failures + 1), () => settle(Error(phase)));
    change({ state: "connecting" });

    const listen = async () => {
      const bearer = await ask(why);
      if (mine != current) return;
      const query = new URLSearchParams("heartbeat=id");
      /** @param {string} name @param {any} value */
      const add = (name, value) => value != null && query.append(name, value);
      for (const room of rooms) add("room", room);
      add("user", user);
      add("last_event_id", cursor);
      // The server passes over this if there is an id.
      add("history", history);
      add("presence", options.presence ? "on" : null);
      phase = "network";
      // The first poll takes a second where its answer comes in one piece.
      after(connectMs + +polls * TICK_MS, () => settle(Error((phase = "timeout"))));
      /** @type {{ default: (...all: [any, string, any, AbortController, number]) => Promise<any> }} */
      const ways = await (polls ? import("./poll.js") : options.tabs ? import("./tabs.js") : { default: send });
      const answer = await ways.default(options, "/stream?" + query, bearer, mine, pollUntil);
      if (mine != current) return;
      if (answer.status == 204) return stop("closed", "disconnected");
      phase = "content_type";
      if (!/event-stream/.test(/** @type {string} */ (answer.headers.get("content-type")))) return;
      phase = "cut";
      for await (const frames of read(answer)) {
        if (mine != current) return;
        heard = Date.now();
        if (!first) after(TICK_MS, tick);
        first ||= heard;
        for (const frame of frames) if (mine == current) await take(frame);
      }
      phase = "ended";
    };

    /** @param {any} [error] */
    const settle = (error) => {
      if (mine != current) return;
      rest();
      error && fail(error);
      // A status of the application's own request for a token is not the server's.
      const { status: refused, code = phase, retryMs: floor = 0 } = (phase != "token" && error) || {};
      if (refused == 401 && provider && why == "connect") return go("refused");
      // 408 and 429 may pass, as all of 5xx do.
      if (/^4(?!08|29)/.test(refused)) return stop("closed", code);
      // Two pages that replace each other's streams would do so for ever.
      if (farewell == "replaced") return stop("closed", farewell);
      const now = Date.now();
      // Not one byte, or an end within a second: something on the way may hold streams back.
      const isShort = phase == "timeout" || (/cut|ended/.test(phase) && !farewell && now < (first || now) + TICK_MS);
      if (isShort && transport == "auto" && !polls && ++shorts >= SHORTS) {
        shorts = 0;
        pollUntil = now + POLLS_FOR_MS;
      }
      notBefore = now + Math.max(floor, retryMs);
      pause(Math.max(notBefore - now, Math.random() * Math.min(capMs, baseMs * 2 ** failures++)), farewell ?? code);
    };

    listen().then(settle, settle);
  };

  /**
   * @param {number} ms
   * @param {string | null} reason
   */
  const pause = (ms, reason) => {
    after(ms, go);
    change({ state: "waiting", reason, retryAt: Date.now() + ms });
  };

  /** Looks after an open stream. A timer over the whole silence would stand still while the computer sleeps. */
  const tick = () => {
    failures = shorts = 0;
    save();
    if (isDue()) go();
    else after(TICK_MS, tick);
  };
  /** Whether it is time to ask anew. A hidden page can wait, but nothing else tells it of a network. */
  const isDue = () =>
    status.state == "offline" ||
    (globalThis.document?.visibilityState != "hidden" && (status.state == "idle" || Date.now() - heard > staleMs));
  /** The page is seen again, or its computer has a network again. */
  const wake = () => isDue() && pause(notBefore - Date.now(), status.reason);

  /**
   * @param {"idle" | "closed"} state
   * @param {string | null} [reason]
   */
  const stop = (state, reason = null) => {
    rest();
    heard = Infinity;
    change({ state, reason });
  };
  /** Before the page is put away: an open request would keep it from being kept. */
  const park = () => status.state != "closed" && stop("idle");

  const page = new AbortController();
  const close = () => {
    page.abort();
    stop("closed");
  };

  /**
   * @param {"add" | "delete"} how
   * @returns {(...names: string[]) => void}
   */
  const alter = (how) => (...names) => {
    const before = rooms.size;
    const mine = current;
    for (const name of names) rooms[how](name);
    // What is altered at once is asked for once. In another state the next attempt has it.
    if (rooms.size != before && mine) queueMicrotask(() => mine == current && go());
  };

  for (const type of ["online", "pageshow", "visibilitychange", "pagehide"]) {
    globalThis.addEventListener?.(type, type == "pagehide" ? park : wake, page);
  }
  move(options.since ?? /** @type {string | null} */ (withStore(keep, (store) => store.getItem(key))));
  onAbort(options.signal, close);
  queueMicrotask(go);

  /** @type {Stream<any>["on"]} */
  const on = (type, listener, { room, signal } = {}) => {
    const off = messages.add((message) => isFor(message, type, room) && listener(message));
    onAbort(signal, off);
    return off;
  };
  /** @type {Stream<any>["events"]} */
  const events = (type, options) => iterate(messages, watchers, rooms, status.state == "closed", type, options);
  return /** @type {any} */ ({
    get status() {
      return status;
    },
    on,
    onAny: on.bind(0, ""),
    events,
    watch: watchers.add,
    join: alter("add"),
    leave: alter("delete"),
    reconnect: () => go(),
    close,
    [Symbol.asyncIterator]: events,
    [Symbol.asyncDispose]: close,
  });
}
