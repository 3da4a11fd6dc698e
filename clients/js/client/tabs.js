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
import { read } from "./frames.js";
import { send } from "./request.js";

/** @typedef {import("./parser.js").Frame} Frame */
/** @typedef {import("./request.js").Reach} Reach */

/** @typedef {import("./cursor.js").Position} Position */

/**
 * What tabs tell each other:
 *
 * - `ask` of a reader by its name, with its rooms, its place and its token: it wants to be in the leader's stream
 * - `who` are there, the leader wants to know; or `here` it is, and wants to know already
 * - `begin` of the leader's stream of that name: it has these rooms, above that place; the frame `connected`
 * - `frame` of the stream of that name; one without a name refuses all
 * - `end` of the stream of that name; one without a name was not opened, and ends all
 * - `alone`: there is no stream for all
 *
 * @typedef {["ask", number, string[], Position, (string | null)?] | ["who"] | ["here"] | ["begin", number, string[], Position, Frame] |
 *   ["frame", number | undefined, Frame] | ["end", number | undefined, object?] | ["alone"]} News
 * @typedef {{ hear: (news: any[]) => void, end: (error?: unknown) => void }} Reader
 */

/** How long tabs have to say where they are. */
const GATHER_MS = 100;
/** A leader answers at once. After this it is frozen. */
const DEAF_MS = 1500;
/** How long a reader polls that may not be with the others. */
const POLL_S = 25;
/** Frames that wait for a reader. One that is further behind begins anew, from its place. */
const FRAMES_MAX = 1000;

/** Whose stream it is. @param {Frame} connected */
const userOf = ({ data }) => JSON.parse(/** @type {string} */ (data)).user;

/** @type {Map<string, ReturnType<typeof join>>} */
const groups = new Map();
/** The group that a stream was in: whose it is is known after its first request. @type {WeakMap<Reach, string>} */
const names = new WeakMap();

/**
 * Makes this tab one of a group.
 *
 * @param {string} name
 * @param {Reach} reach
 * @param {URLSearchParams} query what all its streams ask for
 */
function join(name, reach, query) {
  const channel = new BroadcastChannel(name);
  /** @type {Set<Reader>} */
  const readers = new Set();
  const quit = new AbortController();
  /** @type {AbortController | undefined} the leader's stream */
  let stream;
  /** @type {Map<number, [string[], Position, (string | null)?]> | undefined} while tabs say where they are */
  let asks;
  /** @type {((value: unknown) => void) | undefined} gives the lock back */
  let release;
  let isOver = false;

  /** Tells all tabs, this one as well. @param {News} news */
  const say = (...news) => {
    if (isOver) return;
    channel.postMessage(news);
    hear(news);
  };

  /** @param {any[]} news */
  const hear = (news) => {
    if (news[0] != "ask") readers.forEach((reader) => reader.hear(news));
    else if (release) gather(...news);
  };
  channel.onmessage = ({ data }) => hear(data);

  /** @param {any[]} ask */
  const gather = (...[, id, ...ask]) => {
    const before = asks;
    asks ??= new Map();
    // The first to ask has begun anew, so its token is the newest.
    if (id) asks.set(id, /** @type {any} */ (ask));
    if (!before) setTimeout(lead, GATHER_MS);
    say(before ? "here" : "who");
  };

  /** Opens a stream for all who have asked, and passes it on. */
  const lead = async () => {
    const all = [.../** @type {NonNullable<typeof asks>} */ (asks).values()];
    asks = undefined;
    stream?.abort();
    if (isOver || !all[0]) return;
    const mine = (stream = new AbortController());
    /** @type {number | undefined} */
    let begin;
    const rooms = all.flatMap(([rooms]) => rooms);
    const at = all.map(([, at]) => at).reduce((at, next) => (isPast(next, at) ? next : at));
    let failure;
    try {
      const asked = new URLSearchParams(query);
      for (const room of new Set(rooms)) asked.append("room", room);
      asked.append("last_event_id", /** @type {RegExpExecArray} */ (at)[0]);
      const answer = await send(reach, "/stream?" + asked, all[0][2], mine);
      // 204 is a refusal here: the user is to stay away.
      if (!answer.body) throw { status: 400 };
      for await (const frame of read(answer)) {
        if (mine != stream) return;
        if (frame.event == "connected") say("begin", (begin = Math.random()), rooms, at, frame);
        else say("frame", begin, frame);
      }
    } catch (error) {
      // An error would come through without what the server said.
      failure = { message: "" + error, .../** @type {any} */ (error) };
    }
    if (mine != stream) return;
    // It may be because of one tab's rooms. Each finds out for itself.
    if (/^4(?!08|29)/.test(failure?.status)) say("alone");
    else say("end", begin, failure);
  };

  /** Ends all readers of this tab, and with the last one its part in the group. */
  const away = () => readers.forEach((reader) => reader.end(Error("freeze")));
  // Workers have no page. A page that is frozen must not let the others wait. One that is put away aborts its attempts.
  globalThis.document?.addEventListener("freeze", away, quit);

  /** @param {LockOptions} how */
  const stand = (how) =>
    navigator.locks
      .request(name, how, () => {
        if (isOver) return;
        return new Promise((done) => {
          // First, because this tab's own answer is heard at once, and only by a leader.
          release = done;
          gather();
        });
      })
      // Another tab has taken the lock, because this one did not answer.
      .catch(away);
  stand({ signal: quit.signal });

  return {
    readers,
    say,
    seize: () => stand({ steal: true }),
    leads: () => release,
    leave() {
      if (readers.size) return;
      isOver = true;
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
  // It may be over since this module was asked for.
  attempt.signal.throwIfAborted();
  // Without locks each tab has its own stream.
  if (!globalThis.navigator?.locks) return send(reach, path, token, attempt);
  const query = new URLSearchParams(path.split("?")[1]);
  const rooms = query.getAll("room");
  /** The last position that was given. */
  let at = position(query.get("last_event_id"));
  for (const name of ["room", "last_event_id", "history"]) query.delete(name);
  const key = reach.url + "?" + query;
  const id = Math.random();
  /** @type {Set<string>} the last ids of publishers, which say nothing of an order */
  const ids = new Set();
  /** Its tab's, once it is known. @type {ReturnType<typeof join>} */
  let group;
  /** @type {AbortController | undefined} its own request */
  let own;
  /** @type {number | undefined} the leader's stream that it is in */
  let following;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let deaf;
  /** @type {ReadableStreamDefaultController<Frame>} */
  let out;
  const body = new ReadableStream({ start: (own) => void (out = own) });
  /** No `Response`: the chunks of its body would have to be bytes. @type {any} */
  const whole = { body, headers: { get: () => "event-stream" } };

  return new Promise((resolve, reject) => {
    /** @param {Frame} frame */
    const give = (frame) => {
      resolve(whole);
      const { id } = frame;
      const place = position(id);
      if (isPast(place, at) || ids.has(/** @type {string} */ (id))) return;
      if (place) at = place;
      else if (id) ids.add(id);
      if (ids.size > FRAMES_MAX) ids.delete(/** @type {string} */ (ids.values().next().value));
      if (/** @type {number} */ (out.desiredSize) < -FRAMES_MAX) reader.end(Error("slow"));
      else out.enqueue(frame);
    };

    const ask = () => group.say("ask", id, rooms, at, token);
    /** @param {string} name */
    const enter = (name) => {
      names.set(reach, name);
      groups.set(name, (group = groups.get(name) ?? join(name, reach, query)));
      group.readers.add(reader);
    };
    /** Asks, and minds whether the leader answers. */
    const call = () => {
      deaf = setTimeout(() => group.seize(), DEAF_MS);
      ask();
    };

    /** Polls by itself, and then asks. @param {number} seconds */
    const alone = async (seconds) => {
      const mine = (own = new AbortController());
      try {
        const asked = new URLSearchParams(path.split("?")[1] + "&poll=" + seconds);
        if (at) asked.set("last_event_id", at[0]);
        const answer = await send(reach, "/stream?" + asked, token, mine);
        if (!answer.body) {
          // What has begun as a stream ends as one, and the next attempt hears that the user is to stay away.
          resolve(answer);
          return reader.end();
        }
        for await (const frame of read(answer)) {
          if (mine != own) return;
          if (frame.event == "connected") enter(key + userOf(frame));
          give(frame);
          // A refusal has no place.
          if (/^(overload|closing)$/.test(/** @type {string} */ (frame.event))) at = null;
        }
        if (mine != own) return;
        own = undefined;
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
        own = undefined;
        group?.readers.delete(reader);
        group?.leave();
        reject(error);
        if (error) out.error(error);
        else out.close();
      },
      hear([type, of, more, from, connected]) {
        if (own) return;
        // What has no name is for all who have no other request.
        const isMine = of == null || of == following;
        if (type == "frame") {
          const { id, room = null } = more;
          // Of other rooms, only the place is of interest.
          if (isMine) give(room == null || rooms.includes(room) ? more : { id });
          return;
        }
        clearTimeout(deaf);
        if (type == "who") ask();
        if (type == "begin") {
          if (key + userOf(connected) != names.get(reach)) {
            // Somebody's token has another user than it had before. Each tab asks anew whose its stream is.
            names.delete(reach);
            reader.end();
          } else if (rooms.every((room) => more.includes(room)) && isPast(from, at)) {
            following = of;
            // It begins before this reader's place.
            give({ ...connected, id: null, via: group.leads() ? "stream" : "tab" });
          } else alone(1);
        }
        if (type == "alone") alone(POLL_S);
        if (type == "end" && isMine) reader.end(more && Object.assign(Error(), more));
      },
    };

    attempt.signal.addEventListener("abort", () => reader.end(attempt.signal.reason));
    const name = at && names.get(reach);
    if (name) {
      enter(name);
      call();
    } else alone(1);
  });
}
