/**
 * Who is there: members by presence, and who types.
 */
import { t } from "/i18n.js";

/** How long "is typing" is shown after the last word of it. */
const TYPING_MS = 4000;

export class People {
  /** By room: who is present, each with what they show. */
  #members = new Map();
  /** By room: how many are present, also where they are too many to name. */
  #totals = new Map();
  /** By place: who types, with the timer that ends it. */
  #typing = new Map();

  constructor(me, stream, everyone, draw) {
    Object.assign(this, { me, everyone, draw });
    this.known = new Set(me.people);
    stream.on("presence", ({ room, data }) => this.#take(room, data));
  }

  /** Called with the room and a text when somebody comes or goes. */
  onNews = () => {};

  #take(room, { type, total, members = [], join = [], update = [], leave = [] }) {
    const present = this.#members.get(room) ?? new Map();
    this.#members.set(room, present);
    this.#totals.set(room, total);
    // A `state` has everybody, and a `count` names nobody.
    if (type != "diff") present.clear();
    for (const { user } of join) if (!present.has(user) && user != this.me.user) this.onNews(room, t("chat.joined", { name: user }));
    for (const user of leave) if (present.delete(user)) this.onNews(room, t("chat.left", { name: user }));
    for (const { user, data } of [...members, ...join, ...update]) {
      present.set(user, data);
      this.known.add(user);
    }
    this.draw();
  }

  /** The user has left the room. */
  forget(room) {
    this.#members.delete(room);
    this.#totals.delete(room);
  }

  /** How somebody is: `typing`, `online`, `idle` or `offline`. */
  status(name) {
    for (const names of this.#typing.values()) if (names.has(name)) return "typing";
    const present = this.#members.get(this.everyone);
    return present?.has(name) ? (present.get(name)?.status ?? "online") : "offline";
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
    const names = [...(this.#members.get(room)?.keys() ?? [])].sort((a, b) => a.localeCompare(b));
    return names.map((name) => ({ name, status: this.status(name) }));
  }

  /** How many are in a room. */
  count(room) {
    return this.#totals.get(room) ?? 0;
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
