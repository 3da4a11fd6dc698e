/**
 * One stream for all tabs of a browser. To those who read it, this is `send`: the same request, and an answer that goes on.
 *
 * Tabs of one server and one user are a group. The one that has the group's Web Lock leads: it has one stream with the rooms
 * of all, and passes its frames on over a BroadcastChannel. Who reads them is here a *reader*: it knows its rooms and its
 * place, takes what is for it and above that place, and drops the rest. So frames may come again, and nobody has to know
 * what others have seen.
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
import { isLast, onAbort } from "./listeners.js";
import { send } from "./request.js";

/** @typedef {import("./parser.js").Frame} Frame */
/** @typedef {import("./request.js").Reach} Reach */

/**
 * What a reader wants to be in the leader's stream with: its rooms, its place and its token.
 *
 * @typedef {[string[], import("./cursor.js").Position, (string | null)?]} Ask
 */

/**
 * What tabs tell each other:
 *
 * - `ask` of a reader
 * - `who` are there, the leader wants to know, or it is there and knows already
 * - `frame` of the leader's stream `of` that name, which has one since its frame `connected`; without a name it refuses all
 * - `end` of the stream `of` that name, perhaps with an error; one without a name was not opened, and ends all
 *
 * @typedef {{ ask: Ask } | { who: boolean } | { of?: number, frame: Frame } | { of?: number, end: any }} News
 */

/** How long tabs have to say where they are. */
const GATHER_MS = 100;
/** A leader answers at once. After this it is frozen. */
const DEAF_MS = 1500;
/** How long a reader polls that may not be with the others. */
const POLL_S = 25;
/** Frames that wait for a reader. One that is further behind begins anew, from its place. */
const FRAMES_MAX = 1000;

/** What a frame `connected` says. @param {Frame} frame */
const parse = ({ data }) => JSON.parse(/** @type {string} */ (data));

/** The group that a stream was in: whose it is is known after its first request. @type {WeakMap<Reach, string>} */
const names = new WeakMap();

/**
 * @param {Reach} reach
 * @param {string} path
 * @param {string | null | undefined} token
 * @param {AbortController} attempt all that there is of a reader ends with it
 * @returns {Promise<Response>}
 */
export default async function share(reach, path, token, attempt) {
  const { signal } = attempt;
  // It may be over since this module was asked for.
  signal.throwIfAborted();
  const locks = globalThis.navigator?.locks;
  // Without locks each tab has its own stream.
  if (!locks) return send(reach, path, token, attempt);

  // What the streams of a group ask for is the same, but for these.
  const query = new URLSearchParams(path.split("?")[1]);
  const rooms = query.getAll("room");
  /** The last position that was given. */
  let at = position(query.get("last_event_id"));
  for (const name of ["room", "last_event_id", "history"]) query.delete(name);
  const key = reach.url + "?" + query;
  /** The group. */
  let name = at && names.get(reach);
  /** @type {BroadcastChannel | undefined} */
  let channel;
  /** Whether its own request is under way. It hears nobody then. */
  let isAlone = false;
  /** @type {number | undefined} the leader's stream that it is in */
  let following;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let deaf;
  let leads = false;
  /** @type {Ask[]} who has told this leader, in this round, where it is */
  let asks = [];
  /** @type {AbortController | undefined} the leader's stream */
  let stream;
  /** @type {any[]} the last ids of publishers, which say nothing of an order */
  const ids = [];

  /** @type {ReadableStreamDefaultController<Frame>} */
  let out;
  const body = new ReadableStream({ start: (own) => void (out = own) });
  onAbort(signal, () => {
    clearTimeout(deaf);
    stream?.abort();
    channel?.close();
  });

  return new Promise((resolve, reject) => {
    /** @param {unknown} [error] */
    const end = (error) => {
      // What waits to be read would be lost with a second end.
      if (signal.aborted) return;
      reject(error);
      if (error) out.error(error);
      else out.close();
      attempt.abort();
    };
    const freeze = () => end(Error("freeze"));
    // Workers have no page. A page that is frozen must not let the others wait. One that is put away aborts its attempts.
    globalThis.document?.addEventListener("freeze", freeze, attempt);

    /** @param {Frame} frame */
    const give = (frame) => {
      // No `Response`: the chunks of its body would have to be bytes.
      resolve(/** @type {any} */ ({ body, headers: { get: () => "event-stream" } }));
      const { id } = frame;
      const place = position(id);
      if (isPast(place, at) || ids.includes(id)) return;
      if (place) at = place;
      else if (id && ids.push(id) > FRAMES_MAX) ids.shift();
      if (/** @type {number} */ (out.desiredSize) < -FRAMES_MAX) end(Error("slow"));
      else out.enqueue(frame);
    };

    /** Polls by itself, and then asks the leader. @param {number} seconds */
    const poll = async (seconds) => {
      isAlone = true;
      try {
        const asked = new URLSearchParams(path.split("?")[1] + "&poll=" + seconds);
        if (at) asked.set("last_event_id", at[0]);
        const answer = await send(reach, "/stream?" + asked, token, attempt);
        if (!answer.body) {
          // What has begun as a stream ends as one, and the next attempt hears that the user is to stay away.
          resolve(answer);
          return end();
        }
        for await (const frames of read(answer)) {
          for (const frame of frames) {
            if (frame.event == "connected") names.set(reach, (name = key + parse(frame).user));
            give(frame);
            // A refusal has no place.
            if (isLast(frame.event)) at = null;
          }
        }
        signal.throwIfAborted();
        isAlone = false;
        if (at) call();
        else end();
      } catch (error) {
        end(error);
      }
    };

    /** Asks the leader, and minds whether it answers. */
    const call = () => {
      if (!channel) {
        channel = new BroadcastChannel(/** @type {string} */ (name));
        channel.onmessage = ({ data }) => hear(data);
        stand({ signal });
      }
      deaf = setTimeout(stand, DEAF_MS, { steal: true });
      ask();
    };
    const ask = () => say({ ask: [rooms, at, token] });

    /** Wants to lead. @param {LockOptions} how */
    const stand = (how) =>
      locks
        .request(/** @type {string} */ (name), how, () => {
          leads = true;
          say({ who: true });
          return new Promise((done) => onAbort(signal, /** @type {() => void} */ (done)));
        })
        // Another tab has taken the lock, because this one did not answer.
        .catch(freeze);

    /** Tells all tabs, this one as well. @param {News} news */
    const say = (news) => {
      if (signal.aborted) return;
      channel?.postMessage(news);
      hear(news);
    };

    /** @param {any} news */
    const hear = ({ ask: asked, who, of, frame, end: error }) => {
      if (asked) return leads && gather(asked);
      if (isAlone) return;
      // A leader that answers lives. A frame may be older than the question.
      if (!frame || frame.event == "connected") clearTimeout(deaf);
      if (who) ask();
      if (frame?.event == "connected") {
        const { user, rooms: all } = parse(frame);
        if (key + user != name) {
          // Somebody's token has another user than it had before. Each tab asks anew whose its stream is.
          names.delete(reach);
          end();
        } else if (rooms.every((room) => all.includes(room)) && isPast(position(frame.id), at)) {
          following = of;
          // It begins before this reader's place.
          give({ ...frame, id: null, via: leads ? "stream" : "tab" });
        } else poll(1);
      } else if (of != null && of != following) {
        // It is of a stream that this reader is not in.
        return;
      } else if (frame) {
        // Of other rooms, only the place is of interest.
        give(frame.room == null || rooms.includes(frame.room) ? frame : { id: frame.id });
      } else if (error) {
        // A refusal may be because of one tab's rooms. Each finds out for itself.
        if (/^4(?!08|29)/.test(error.status)) poll(POLL_S);
        else end(error.message && Object.assign(Error(), error));
      }
    };

    // What a leader does.

    /** @param {Ask} asked */
    const gather = (asked) => {
      asks.push(asked);
      const who = !asks[1];
      if (who) setTimeout(lead, GATHER_MS);
      say({ who });
    };

    /** Opens a stream for all who have asked, and passes it on. */
    const lead = async () => {
      if (signal.aborted) return;
      const all = asks;
      asks = [];
      stream?.abort();
      const mine = (stream = new AbortController());
      let of;
      /** @type {any} */
      let end = {};
      try {
        const asked = new URLSearchParams(query);
        let [[, from, bearer]] = all;
        for (const [rooms, next] of all) {
          if (isPast(next, from)) from = next;
          for (const room of rooms) asked.has("room", room) || asked.append("room", room);
        }
        asked.append("last_event_id", /** @type {RegExpExecArray} */ (from)[0]);
        // The first to ask has begun anew, so its token is the newest.
        const answer = await send(reach, "/stream?" + asked, bearer, mine);
        // 204 is a refusal here: the user is to stay away.
        if (!answer.body) throw { status: 400 };
        for await (const frames of read(answer)) {
          for (const frame of frames) {
            if (frame.event == "connected") of = Math.random();
            say({ of, frame });
          }
        }
      } catch (error) {
        // An error would come through without what the server said.
        end = { message: "" + error, .../** @type {any} */ (error) };
      }
      if (mine == stream) say({ of, end });
    };

    if (name) call();
    else poll(1);
  });
}
