/**
 * The chat: one stream for everything, and a panel for each room and each private conversation that is open.
 */
import { connect } from "/api/v1/sse/client.js";
import { api, token, untilDone } from "/api.js";
import { sorry, t, when } from "/i18n.js";
import { make, say, showState, start } from "/shell.js";
import { Panel } from "/chat/panel.js";
import { People } from "/chat/people.js";
import { nameOf } from "/chat/places.js";
import { prepareSearch } from "/chat/search.js";
import { tellActivity } from "/chat/activity.js";

/** A room in which nobody talks: whoever is present here has the chat open. */
const EVERYONE = "chat-everyone";

await start();
const me = await api("chat");

const side = document.querySelector(".side");
const wide = matchMedia("(min-width: 900px)");

/** The open panels, by place: a room, or `@` and a name. */
const panels = new Map();
const unread = new Map();
/** By private conversation, the newest message that was shown here. So a number waits also for who comes later. */
const seenKey = `chat.seen.${me.user}`;
const seen = JSON.parse(localStorage.getItem(seenKey) ?? "{}");
noteUnread(me.talks);

/** Notes private conversations with something that was not shown yet. */
function noteUnread(talks) {
  for (const { with: name, newest } of talks) {
    const place = `@${name}`;
    if (newest > (seen[place] ?? 0) && !panels.has(place) && !unread.has(place)) unread.set(place, 1);
  }
}

function see(place, id) {
  if (!place.startsWith("@") || id <= (seen[place] ?? 0)) return;
  seen[place] = id;
  localStorage.setItem(seenKey, JSON.stringify(seen));
}

/** Panels whose messages are still to be loaded. */
const fresh = new Set();

const stream = connect({
  rooms: [EVERYONE],
  token,
  presence: true,
  // A browser has six connections to a host over HTTP/1.1, and each stream would hold one.
  tabs: true,
  // Too much came while this page was away. Nothing new is read until the messages are loaded again.
  onGap: async ({ rooms, inbox }) => {
    const missed = [...panels.values()].filter(({ place }) => rooms.includes(place) || (inbox && place.startsWith("@")));
    await untilDone(async () => {
      await Promise.all(missed.map((panel) => panel.load()));
      if (inbox) noteUnread((await api("chat")).talks);
    });
    draw();
    for (const panel of missed) panel.notice(t("chat.gap"));
  },
});
const people = new People(me, stream, EVERYONE, { draw, news: (room, text) => panels.get(room)?.notice(text) });

// Load the messages when the stream is open, not before: what is said in between would be in neither of the two.
stream.watch(({ state }) => state == "open" && fresh.forEach(load));

function load(panel) {
  fresh.delete(panel);
  panel.load().catch((error) => {
    if (!panels.has(panel.place)) return;
    say(sorry(error));
    // A name in the address that nobody has. Otherwise the next opening of the stream tries again.
    if (error.status == 404) close(panel.place);
    else fresh.add(panel);
  });
}

// The id of a message is the id of its event: `m.` and a number.
stream.on("said", ({ room, id, data }) => panels.get(room)?.show({ ...data, id: +id.slice(2) }));
stream.on("private", ({ id, data }) => {
  const place = `@${data.from}`;
  if (panels.has(place)) panels.get(place).show({ ...data, id: +id.slice(2) });
  else {
    unread.set(place, (unread.get(place) ?? 0) + 1);
    say(t("chat.private.new", { name: data.from }));
    draw();
  }
});
// What this user said: here, in another tab or on another device.
stream.on("own", ({ data }) => panels.get(data.place)?.show(data));
stream.on("typing", ({ room, data }) => people.types(room ?? `@${data.from}`, data.from));
stream.on("muted", ({ data: { room, until } }) => panels.get(room)?.mute(Date.parse(until)));
stream.on("unmuted", ({ data: { room } }) => panels.get(room)?.mute(null));

/** Opens the panel of a place, or goes to it. */
function open(place) {
  if (!panels.has(place)) {
    const panel = new Panel(place, { me, people, askPerson, close, see });
    panels.set(place, panel);
    document.querySelector("#panels").append(panel.element);
    // Private messages come to the inbox, which is part of every stream.
    if (place.startsWith("@")) {
      unread.delete(place);
      fresh.add(panel);
      if (stream.status.state == "open") load(panel);
    } else {
      fresh.add(panel);
      people.follow(place);
      stream.join(place);
    }
    remember();
  }
  draw();
  return panels.get(place);
}

function close(place) {
  panels.get(place).element.remove();
  fresh.delete(panels.get(place));
  panels.delete(place);
  if (!place.startsWith("@")) {
    people.forget(place);
    stream.leave(place);
  }
  remember();
  draw();
}

/** Opens a place and puts the cursor into it. */
function visit(place) {
  const panel = open(place);
  if (!wide.matches) side.open = false;
  panel.element.scrollIntoView({ inline: "start", block: "nearest" });
  panel.focus();
}

/** The open places are in the address, so that a reload and a link open the same. */
function remember() {
  history.replaceState(null, "", `#${[...panels.keys()].map(encodeURIComponent).join(",")}`);
}

/** The lists at the side, and who is there in each panel. */
function draw() {
  const rooms = me.rooms.map((room) => {
    const isOpen = panels.has(room);
    const button = make("button", { className: "place", ariaPressed: `${isOpen}` }, nameOf(room));
    button.onclick = () => (panels.has(room) ? close(room) : visit(room));
    return make("li", {}, button);
  });
  keepFocus(document.querySelector("#rooms"), rooms);
  const list = people.list().map(({ name, status }) => {
    const count = unread.get(`@${name}`);
    const label = make("span", { className: "status" }, t(`chat.status.${status}`));
    const button = make("button", { className: "person" }, make("span", { className: "name" }, name), label);
    button.dataset.status = status;
    if (count) button.append(make("span", { className: "badge" }, t("chat.unread", { count })));
    if (name == me.user) button.disabled = true;
    else button.onclick = () => visit(`@${name}`);
    return make("li", {}, button);
  });
  keepFocus(document.querySelector("#people"), list);
  for (const panel of panels.values()) panel.drawPeople();
}

/** Replaces the items of a list, and gives the focus back to the one that had it. */
function keepFocus(list, items) {
  const at = [...list.children].findIndex((item) => item.contains(document.activeElement));
  list.replaceChildren(...items);
  if (at >= 0) items[at]?.querySelector("button").focus();
}

/** What can be done with somebody in a room: write to them, and for an admin, mute them. */
function askPerson(room, name) {
  const dialog = make("dialog", { className: "person-dialog" });
  const act = (label, run, className = "") => {
    const button = make("button", { type: "button", className }, label);
    button.onclick = () => {
      dialog.close();
      run().catch((error) => say(sorry(error)));
    };
    return button;
  };
  const mute = `chat/${room}/mute/${encodeURIComponent(name)}`;
  const forAdmin = [
    act(t("chat.mute"), async () => {
      const { until } = await api(mute, { method: "PUT", body: { minutes: 5 } });
      say(t("chat.mute.done", { name, time: when(until) }));
    }),
    act(t("chat.unmute"), async () => {
      await api(mute, { method: "DELETE" });
      say(t("chat.unmute.done", { name }));
    }),
  ];
  const form = make(
    "form", { method: "dialog" },
    make("h2", { id: "person-title" }, name),
    act(t("chat.private.write"), async () => visit(`@${name}`), "strong"),
    ...(me.is_admin ? forAdmin : []),
    make("button", { className: "quiet" }, t("close")),
  );
  dialog.append(form);
  dialog.setAttribute("aria-labelledby", "person-title");
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
}

showState(stream);
prepareSearch(document.querySelector("#search"), open);
tellActivity(stream, EVERYONE, me.user);
// On a phone the lists would take the whole first screen.
wide.onchange = () => (side.open = wide.matches);
wide.onchange();
const wanted = location.hash.slice(1).split(",").filter(Boolean).map(decodeURIComponent);
for (const place of wanted.filter((place) => me.rooms.includes(place) || place.startsWith("@"))) open(place);
if (!panels.size) me.rooms.slice(0, matchMedia("(min-width: 1200px)").matches ? 2 : 1).forEach(open);
