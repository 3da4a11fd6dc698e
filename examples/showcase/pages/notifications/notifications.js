/**
 * Notifications: the inbox is loaded from the application, and what is new comes by the stream.
 */
import { connect } from "/api/v1/sse/client.js";
import { api, newKey, token, untilDone } from "/api.js";
import { sorry, t, when } from "/i18n.js";
import { make, say, showState, start } from "/shell.js";
import { prepareDesktop } from "/notifications/desktop.js";

/** As many as the application's inbox has. */
const SHOWN_MAX = 100;

const me = await start();
const find = (id) => document.getElementById(id);

/** What is in the inbox, by id. */
const notices = new Map();
/** Ids that were read. This only grows, so it does not matter in which order the inbox and the events come. */
const read = new Set();

const stream = connect({
  token,
  // A browser has six connections to a host over HTTP/1.1, and each stream would hold one.
  tabs: true,
  // Without rooms: every stream has its user's inbox, and what is for everyone.
  onGap: () => untilDone(load),
});
const showOnDesktop = prepareDesktop(find("desktop"), find("desktop-state"));

let isLoaded = false;
// When the stream is open, and not before: what is sent in between would be missing. After that, the stream resumes by itself.
stream.watch(({ state }) => state == "open" && !isLoaded && load().catch((error) => say(sorry(error))));

stream.on("notice", ({ data: notice }) => {
  if (notices.has(notice.id)) return;
  add(notice);
  draw();
  find("news").textContent = t("notifications.new", { name: notice.from, text: notice.text });
  showOnDesktop(notice);
});
// In another tab, or on another device.
stream.on("read", ({ data: { ids } }) => {
  ids.forEach((id) => read.add(id));
  draw();
});

/** Loads the whole inbox. */
async function load() {
  const inbox = await api("notifications");
  isLoaded = true;
  inbox.notices.forEach(add);
  find("staff").checked = inbox.is_staff;
  choosePeople(inbox.people);
  draw();
}

function add(notice) {
  notices.set(notice.id, notice);
  if (notice.is_read) read.add(notice.id);
}

function draw() {
  const newest = [...notices.values()].sort((a, b) => b.id - a.id);
  for (const { id } of newest.splice(SHOWN_MAX)) notices.delete(id);
  const unread = newest.filter(({ id }) => !read.has(id));
  keepFocus(find("notices"), newest.map(item));
  find("none").hidden = newest.length > 0;
  find("unread").textContent = t("notifications.unread", { count: unread.length });
  find("unread").classList.toggle("some", unread.length > 0);
  find("read-all").disabled = !unread.length;
  find("read-all").onclick = () => markRead(unread.map(({ id }) => id));
  document.title = `${unread.length ? `(${unread.length}) ` : ""}${t("notifications.title")}`;
}

function item({ id, from, text, since, to }) {
  const isRead = read.has(id);
  const by = make("p", { className: "by" }, make("strong", {}, from), ` ${t(`notifications.to.${to}`)} · `, make("time", {}, when(since)));
  const line = make("li", { className: isRead ? "" : "unread" }, make("div", {}, by, make("p", { className: "text" }, text)));
  line.dataset.id = id;
  if (!isRead) {
    const button = make("button", { className: "quiet" }, t("notifications.read"));
    button.onclick = () => markRead([id]);
    line.append(button);
  }
  return line;
}

/** Replaces the list. Who stood on a button that is gone stands on the next one. */
function keepFocus(list, items) {
  const at = [...list.children].findIndex((one) => one.contains(document.activeElement));
  const id = list.children[at]?.dataset.id;
  list.replaceChildren(...items);
  if (!id) return;
  const same = items.findIndex((one) => one.dataset.id == id);
  const next = items.slice(Math.max(same, 0)).map((one) => one.querySelector("button")).find(Boolean);
  (next ?? find("read-all")).focus();
}

async function markRead(ids) {
  // Shown at once. The event for the other tabs comes here, too, and changes nothing.
  ids.forEach((id) => read.add(id));
  draw();
  try {
    await api("notifications/read", { body: { ids } });
  } catch (error) {
    ids.forEach((id) => read.delete(id));
    draw();
    say(sorry(error));
  }
}

// Sending.

/** Adds whoever is not among the people yet. Nothing moves under the pointer of who chooses. */
function choosePeople(names) {
  for (const name of names) {
    if ([...document.getElementsByName("person")].some(({ value }) => value == name)) continue;
    const box = make("input", { type: "checkbox", name: "person", value: name });
    box.onchange = () => (find("send").to.value = "users");
    find("people").append(make("label", {}, box, " ", name == me.user ? t("notifications.you", { name }) : name));
  }
}

function recipients() {
  return [...document.querySelectorAll("[name=person]:checked")].map(({ value }) => value);
}

let key = newKey();
find("send").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  const { to, text } = Object.fromEntries(new FormData(form));
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await api("notifications", { body: { to: to == "users" ? { users: recipients() } : to, text, key } });
    // Until here it is the same notice, however often it is sent.
    key = newKey();
    form.text.value = "";
    find("told").textContent = t("notifications.sent");
  } catch (error) {
    find("told").textContent = sorry(error);
  }
  button.disabled = false;
};
find("send").oninput = () => {
  // Another text is another notice, and so is one to others.
  key = newKey();
  find("told").textContent = "";
};

// The permission.

find("staff").onchange = async ({ target }) => {
  try {
    await api("notifications/staff", { method: "PUT", body: { is_staff: target.checked } });
    // Permissions are in the token, so a new one is needed, and a stream that comes with it.
    await token("changed");
    stream.reconnect();
    notices.clear();
    await load();
  } catch (error) {
    target.checked = !target.checked;
    say(sorry(error));
  }
};

showState(stream);
// Who came later can be chosen, too.
find("send").querySelector("fieldset").addEventListener("focusin", ({ currentTarget, relatedTarget }) => {
  if (!currentTarget.contains(relatedTarget)) api("notifications").then(({ people }) => choosePeople(people), () => {});
});
