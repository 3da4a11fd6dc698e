/**
 * One stream for all tabs of a browser. To those who read it, this is `send`: the same request, and an answer that goes on.
 *
 * Tabs of one server and one user are a group. The tab that has the group's Web Lock leads: it has one stream with the
 * rooms of all, and passes its frames on over a BroadcastChannel. Who reads them is here a *reader*: it knows its rooms and
 * its place, takes what is for it and above that place, and drops the rest. So frames may come again, and nobody has to
 * know what others have seen.
 *
 * A reader's first request is its own, a poll: it tells whose the stream is, and brings what a newcomer gets. Then the
 * reader asks the leader. The leader asks all where they are, and opens a stream that has all rooms and begins at the
 * smallest place. A leader that does not answer is frozen: its lock is taken. A reader that is late, or may not be with the
 * others, polls once more.
 *
 * Its own requests end by themselves because a browser has six connections to a host over HTTP/1.1: more tabs than that
 * would hold all of them, and the leader would get none.
 */

import { isPast, position } from "./cursor.js";
import { encode, read } from "./frames.js";
import { send } from "./request.js";

/** @typedef {import("./parser.js").Frame} Frame */
/** @typedef {import("./request.js").Reach} Reach */

/**
 * What tabs tell each other. One of:
 *
 * - `ask`: a reader wants to be in the leader's stream
 * - `who`: the leader wants to know who is there; it also shows that it lives
 * - `begin`: the leader's stream of this name has `rooms`, all of it above `at`
 * - `of`, `frame`: a frame of the stream of this name
 * - `end`: the stream of this name is over, or was not opened because of `failure`
 * - `alone`: there is no stream for all
 *
 * @typedef {{ ask?: Ask, who?: 1, begin?: number, rooms?: string[], at?: string, connected?: object, of?: number, frame?: Frame,
 *   end?: number, failure?: object, alone?: 1 }} News
 * @typedef {{ id: number, rooms: string[], at: string, token?: string | null }} Ask
 * @typedef {{ hear: (news: News) => void, end: (error?: unknown) => void }} Reader
 */

/** How long tabs have to say where they are. */
const GATHER_MS = 100;
/** A leader answers at once. After this it is frozen. */
const DEAF_MS = 1500;
/** How long a reader polls that may not be with the others. */
const POLL_S = 25;
/** Frames that wait for a reader. One that is further behind begins anew, from its place. */
const FRAMES_MAX = 1000;

/** @type {Map<string, ReturnType<typeof join>>} */
const groups = new Map();
/** The group of those who ask for the same: whose stream that is is known after the first. @type {Map<string, string>} */
const names = new Map();

/** @param {string | null | undefined} one @param {string | null | undefined} other */
const isNotAhead = (one, other) => isPast(position(one), position(other));

/**
 * Makes this tab one of a group.
 *
 * @param {string} name
 * @param {Reach} reach
 * @param {string} query what all its streams ask for
 */
function join(name, reach, query) {
  const channel = new BroadcastChannel(name);
  /** @type {Set<Reader>} */
  const readers = new Set();
  const quit = new AbortController();
  /** @type {AbortController | undefined} the leader's stream */
  let stream;
  /** @type {Map<number, Ask> | undefined} while tabs say where they are */
  let asks;
  /** @type {((value: unknown) => void) | undefined} gives the lock back */
  let release;

  /** Tells all tabs, this one as well. @param {News} news */
  const say = (news) => {
    if (quit.signal.aborted) return;
    channel.postMessage(news);
    hear(news);
  };

  /** @param {News} news */
  const hear = (news) => {
    if (!news.ask) for (const reader of [...readers]) reader.hear(news);
    else if (release) gather(news.ask);
  };
  channel.onmessage = ({ data }) => hear(data);

  /** @param {Ask} [ask] */
  const gather = (ask) => {
    if (!asks) {
      asks = new Map();
      setTimeout(lead, GATHER_MS);
      say({ who: 1 });
    }
    if (ask) asks.set(ask.id, ask);
    // The leader lives.
    say({});
  };

  /** Opens a stream for all who have asked, and passes it on. */
  const lead = async () => {
    const all = [...(asks?.values() ?? [])];
    asks = undefined;
    stream?.abort();
    if (quit.signal.aborted || !all[0]) return;
    const mine = (stream = new AbortController());
    const begin = Math.random();
    const rooms = all.flatMap((ask) => ask.rooms);
    const at = all.map((ask) => ask.at).reduce((least, next) => (isNotAhead(next, least) ? next : least));
    let failure;
    try {
      const asked = new URLSearchParams(query);
      for (const room of new Set(rooms)) asked.append("room", room);
      asked.set("last_event_id", at);
      for await (const frame of read(await send(reach, "/stream?" + asked, all[0].token, mine))) {
        if (mine != stream) return;
        const { event, data = "" } = frame;
        say(event == "connected" ? { begin, rooms, at, connected: JSON.parse(data) } : { of: begin, frame });
      }
    } catch (error) {
      const { status, code, retryMs } = /** @type {any} */ (error);
      failure = { status, code, retryMs };
    }
    if (mine != stream) return;
    // It may be because of one tab's rooms. Each finds out for itself.
    say(/^4(?!08|29)/.test(/** @type {any} */ (failure)?.status) ? { alone: 1 } : { end: begin, failure });
  };

  /** Ends all readers of this tab, and with the last one its part in the group. */
  const away = () => {
    for (const reader of [...readers]) reader.end(Error("away"));
  };
  // A page that is put away or frozen must not let the others wait.
  addEventListener("pagehide", away, quit);
  document.addEventListener("freeze", away, quit);

  /** @param {LockOptions} how */
  const stand = (how) =>
    navigator.locks
      .request(name, how, () => {
        if (quit.signal.aborted) return;
        gather();
        return new Promise((done) => (release = done));
      })
      // Another tab has taken the lock, because this one did not answer.
      .catch(away);
  stand({ signal: quit.signal });

  return {
    say,
    seize: () => stand({ steal: true }),
    leads: () => release,
    /** @param {Reader} reader */
    add: (reader) => readers.add(reader),
    /** @param {Reader} reader */
    remove(reader) {
      readers.delete(reader);
      if (readers.size) return;
      groups.delete(name);
      quit.abort();
      stream?.abort();
      release?.(0);
      channel.close();
    },
  };
}

/**
 * @param {Reach} reach
 * @param {string} path
 * @param {string | null | undefined} token
 * @param {AbortController} attempt
 * @returns {Promise<Response>}
 */
export default async function share(reach, path, token, attempt) {
  // Without locks each tab has its own stream.
  if (!globalThis.navigator?.locks) return send(reach, path, token, attempt);
  const query = new URLSearchParams(path.split("?")[1]);
  const rooms = query.getAll("room");
  /** @type {string | null | undefined} the last position that was given */
  let at = position(query.get("last_event_id"))?.[0];
  for (const name of ["room", "last_event_id", "history"]) query.delete(name);
  const key = reach.url + "?" + query;
  const id = Math.random();
  /** @type {Set<string>} ids of publishers since then */
  const ids = new Set();
  /** @type {ReturnType<typeof join> | undefined} */
  let group;
  /** @type {AbortController | undefined} its own request */
  let own;
  /** @type {number | undefined} the leader's stream that it is in */
  let following;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let deaf;
  /** @type {ReadableStreamDefaultController<Uint8Array>} */
  let out;
  const body = new ReadableStream({ start: (controller) => void (out = controller) });
  const whole = new Response(body, { headers: { "content-type": "text/event-stream" } });

  return new Promise((resolve, reject) => {
    /** @param {Frame} frame */
    const give = (frame) => {
      const { id } = frame;
      if (id && (isNotAhead(id, at) || ids.has(id))) return;
      if (position(id)) {
        at = id;
        ids.clear();
      } else if (id) ids.add(id);
      if (/** @type {number} */ (out.desiredSize) < -FRAMES_MAX || ids.size > FRAMES_MAX) reader.end(Error("slow"));
      else out.enqueue(encode(frame));
    };

    const ask = () => group?.say({ ask: { id, rooms, at: /** @type {string} */ (at), token } });
    /** Asks, and minds whether there is an answer. */
    const call = () => {
      deaf = setTimeout(() => group?.seize(), DEAF_MS);
      ask();
    };

    /** @param {string} name */
    const enter = (name) => {
      names.set(key, name);
      groups.set(name, (group = groups.get(name) ?? join(name, reach, "" + query)));
      group.add(reader);
    };

    /** Polls by itself, and then asks. @param {number} seconds */
    const alone = async (seconds) => {
      following = undefined;
      const mine = (own = new AbortController());
      try {
        const asked = new URLSearchParams(path.split("?")[1] + "&poll=" + seconds);
        if (at) asked.set("last_event_id", at);
        const answer = await send(reach, "/stream?" + asked, token, mine);
        if (!answer.body) return resolve(answer);
        resolve(whole);
        for await (const frame of read(answer)) {
          if (mine != own) return;
          if (frame.event == "connected") {
            const connected = JSON.parse(/** @type {string} */ (frame.data));
            enter(key + connected.user);
            frame.data = JSON.stringify({ ...connected, via: "stream" });
          }
          give(frame);
        }
        if (mine != own) return;
        own = undefined;
        // A refusal has no place.
        if (at) call();
        else reader.end();
      } catch (error) {
        if (mine == own) reader.end(error);
      }
    };

    /** @type {Reader} */
    const reader = {
      end(error) {
        clearTimeout(deaf);
        own?.abort();
        own = following = undefined;
        group?.remove(reader);
        reject(error);
        try {
          if (error) out.error(error);
          else out.close();
        } catch {}
      },
      hear({ who, begin, rooms: has = [], at: from, connected, of, frame, end: over, failure, alone: isNone }) {
        if (frame) {
          const { id, room = null } = frame;
          // Of other rooms, only the place is of interest.
          if (of == following) give(room == null || rooms.includes(room) ? frame : { id });
          return;
        }
        if (own) return;
        clearTimeout(deaf);
        if (who) ask();
        if (begin && rooms.every((room) => has.includes(room)) && isNotAhead(from, at)) {
          following = begin;
          resolve(whole);
          give({ event: "connected", data: JSON.stringify({ ...connected, via: group?.leads() ? "stream" : "tab" }) });
        } else if (begin) alone(1);
        if (isNone) alone(POLL_S);
        if (over && over == (following ?? over)) reader.end(failure && Object.assign(Error(), failure));
      },
    };

    attempt.signal.addEventListener("abort", () => reader.end(attempt.signal.reason));
    const name = at && names.get(key);
    if (name) {
      enter(name);
      call();
    } else alone(1);
  });
}
