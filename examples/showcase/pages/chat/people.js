/**
 * Who is there: members by presence, and who types.
 */
import { presence } from "/api/v1/sse/client/presence.js";
import { t } from "/i18n.js";

/** How long "is typing" is shown after the last word of it. */
const TYPING_MS = 4000;

export class People {
  /** By room: who is present, each with what they show. */
  #rooms = new Map();
  /** Rooms of which nobody knows yet who came and who left. */
  #unknown = new Set();
  /** By place: who types, with the timer that ends it. */
  #typing = new Map();

  /** `news` is called with a room and a text when somebody comes or goes, `draw` when anything is different. */
  constructor(me, stream, everyone, { draw, news }) {
    Object.assign(this, { me, stream, everyone, draw, news });
    this.known = new Set([...me.people, ...me.talks.map((talk) => talk.with)]);
    // A stream begins with who is there. How that differs from what was before is no news.
    stream.watch(({ state }) => state == "open" && this.#rooms.forEach((_, room) => this.#unknown.add(room)));
    this.follow(everyone);
  }

  /** Looks who is in a room. The stream has to join it. */
  follow(room) {
    const followed = presence(this.stream, room);
    let before = followed.current;
    this.#rooms.set(room, followed);
    followed.watch((now) => {
      for (const name of now.members.keys()) this.known.add(name);
      if (!this.#unknown.delete(room) && before.isNamed && now.isNamed) this.#tell(room, before.members, now.members);
      before = now;
      this.draw();
    });
  }

  #tell(room, before, now) {
    for (const name of now.keys()) if (!before.has(name) && name != this.me.user) this.news(room, t("chat.joined", { name }));
    for (const name of before.keys()) if (!now.has(name) && name != this.me.user) this.news(room, t("chat.left", { name }));
  }

  /** The user has left the room. */
  forget(room) {
    this.#rooms.get(room)?.close();
    this.#rooms.delete(room);
  }

  /** How somebody is: `typing`, `online`, `idle` or `offline`. */
  status(name) {
    for (const names of this.#typing.values()) if (names.has(name)) return "typing";
    const { members } = this.#rooms.get(this.everyone).current;
    return members.has(name) ? (members.get(name)?.status ?? "online") : "offline";
  }

  /** Everybody, those who are there first. */
  list() {
    const order = ["typing", "online", "idle", "offline"];
    const all = [...this.known].map((name) => ({ name, status: this.status(name) }));
    const isOff = ({ status }) => order.indexOf(status) == 3;
    return all.sort((a, b) => isOff(a) - isOff(b) || a.name.localeCompare(b.name));
  }

  /** Who is in a room. */
  in(room) {
    const names = [...this.#rooms.get(room).current.members.keys()].sort((a, b) => a.localeCompare(b));
    return names.map((name) => ({ name, status: this.status(name) }));
  }

  /** How many are in a room, also where they are too many to name. */
  count(room) {
    return this.#rooms.get(room).current.total;
  }

  types(place, name) {
    const names = this.#typing.get(place) ?? new Map();
    this.#typing.set(place, names);
    clearTimeout(names.get(name));
    names.set(name, setTimeout(() => this.stopsTyping(place, name), TYPING_MS));
    this.draw();
  }

  stopsTyping(place, name) {
    clearTimeout(this.#typing.get(place)?.get(name));
    if (this.#typing.get(place)?.delete(name)) this.draw();
  }

  typing(place) {
    return [...(this.#typing.get(place)?.keys() ?? [])];
  }
}
