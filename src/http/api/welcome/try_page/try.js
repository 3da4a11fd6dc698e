// The page to try things on. Others publish the events: they go into the page as text, never as markup.
"use strict";

const ROWS_MAX = 200;
const NAMES_MAX = 64;
const CHARACTERS_MAX = 4000;
const AGAIN_MS = 3000;

const $ = (id) => document.getElementById(id);
const { base, token: tokenGoes, version } = document.body.dataset;
const at = (path) => new URL((base && `${base}/`) + path, document.baseURI).href;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// The page's states.

const STATES = {
  idle: "Not listening", connecting: "Connecting", open: "Listening", overload: "Refused for now", closed: "Closed",
};

function setState(state) {
  if (document.body.dataset.state !== state) $("status").textContent = STATES[state];
  document.body.dataset.state = state;
}

function tell(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

const HEADER_ONLY = "An EventSource sends no headers, so it cannot bring this token. To listen with it, set token_query = \"on\", "
  + "or set token_cookie and let your application set that cookie. Publishing works without these.";

const TOKEN_HINT = {
  query: "Goes into the URL to listen, and into Authorization to publish. Use a token that expires within minutes.",
  header: HEADER_ONLY,
  none: HEADER_ONLY,
};

function askForToken() {
  $("access").hidden = false;
  $("token-hint").textContent = TOKEN_HINT[tokenGoes];
}

// Listening.

// Texts for the server's own events. Their data is JSON.
const OWN = Object.assign(Object.create(null), {
  connected: () => "The stream is open.",
  gap: ({ reason }) => `Events may be missing (${reason}). Your own page now fetches the current state from your application.`,
  overload: ({ reason }) => `The server does not take this stream for now (${reason}). The browser comes back by itself.`,
  closing: ({ reason }) => reason === "disconnected"
    ? "The application ended this stream. The browser does not come back."
    : `The server ends this stream (${reason}). The browser comes back by itself.`,
  expiring: ({ expires_in_s: seconds }) => `The token expires in ${seconds} s. Your own page now refreshes it.`,
});

let source = null;
// The last id this page has seen. A new EventSource does not remember it.
let last = "";
// The event names that the open stream listens for.
let heard = new Set();

// Up to NAMES_MAX names. A browser uses "open" and "error" itself.
function names() {
  const typed = $("names").value.split(",").map((name) => name.trim());
  return typed.filter((name) => name && name !== "open" && name !== "error").slice(0, NAMES_MAX);
}

function hear() {
  for (const name of ["message", ...Object.keys(OWN), ...names()]) {
    if (!source || heard.has(name)) continue;
    heard.add(name);
    source.addEventListener(name, take);
  }
}

function streamPath() {
  const [room, user] = [$("room").value, $("user").value];
  // Names with "." or ".." between slashes go into the query: browsers and proxies resolve these in a path.
  const inPath = user && ![room, user].some((name) => name.split("/").some((part) => part === "." || part === ".."));
  const query = new URLSearchParams();
  if (!inPath) query.set("room", room);
  if (!inPath && user) query.set("user", user);
  if ($("history").checked) query.set("history", "20");
  return [inPath ? `stream/${encodeURIComponent(room)}/${encodeURIComponent(user)}` : "stream", query];
}

function streamUrl() {
  const [path, query] = streamPath();
  if (tokenGoes === "query" && $("token").value) query.set("token", $("token").value);
  if (last) query.set("last_event_id", last);
  return at(path) + (query.size ? `?${query}` : "");
}

function open() {
  source?.close();
  setState("connecting");
  heard = new Set();
  const url = streamUrl();
  const mine = source = new EventSource(url);
  hear();
  source.addEventListener("error", () => {
    if (mine !== source) return;
    if (mine.readyState === EventSource.CLOSED) return refused(mine, url);
    if (document.body.dataset.state !== "overload") setState("connecting");
  });
}

function take(event) {
  if (event.target !== source) return;
  if (event.type === "connected") setState("open");
  if (event.type === "overload") setState("overload");
  if (event.lastEventId) last = event.lastEventId;
  const own = OWN[event.type]?.(JSON.parse(event.data));
  if (own && event.type !== "connected") tell(own);
  show({ name: event.type, id: event.lastEventId, data: event.data, own, time: new Date() });
}

// A refused EventSource has no reason. The same request by fetch gets one.
async function refused(mine, url) {
  setState("closed");
  const aborter = new AbortController();
  let why;
  try {
    const answer = await fetch(url, { headers: { accept: "text/event-stream" }, signal: aborter.signal });
    why = await reason(answer);
  } catch {
    why = { again: true, text: "No connection to the server. Trying again." };
  }
  aborter.abort();
  if (mine !== source) return;
  tell(why.text);
  if (!why.again) stop("closed");
}

async function reason(answer) {
  const { status } = answer;
  if (status === 200) return { again: true, text: "" };
  if (status === 204) return { text: "204: the application disconnected this user. New streams are refused for now." };
  const text = await problem(answer);
  if (status !== 401 && status !== 403) return { again: status >= 500, text };
  askForToken();
  return { text: tokenGoes !== "query" && $("token").value ? `${text} ${HEADER_ONLY}` : text };
}

async function problem(answer) {
  const { code, title } = await answer.json().catch(() => ({}));
  return code ? `${answer.status} ${code}: ${title}.` : `${answer.status} ${answer.statusText}`;
}

function stop(state) {
  source?.close();
  source = null;
  setState(state);
  showListening();
}

function showListening() {
  $("toggle").textContent = source ? "Stop" : "Listen";
  // Not disabled: a field in which Enter was pressed would lose the focus.
  for (const id of ["room", "user"]) $(id).readOnly = !!source;
  document.body.toggleAttribute("data-listening", !!source);
}

// When a browser gives up, readyState says so; an event does not always follow.
setInterval(() => {
  if (source?.readyState === EventSource.CLOSED) open();
}, AGAIN_MS);

$("listen").addEventListener("submit", (event) => {
  event.preventDefault();
  tell("");
  if (source) return stop("idle");
  last = "";
  open();
  showListening();
});

// Publishing.

function draft() {
  const [target, name] = [$("target").value, $("name").value];
  const draft = target === "all" ? { all: true } : { [target]: $("to").value };
  if (name) draft.event = name;
  draft.data = $("data").value;
  return draft;
}

// The page also listens for the names that it publishes.
function hearWhatIsPublished() {
  const name = $("name").value;
  if (!name || name === "message" || OWN[name] || names().includes(name)) return;
  $("names").value = [...names(), name].join(", ");
  hear();
  showCode();
}

async function publish() {
  hearWhatIsPublished();
  const headers = { "content-type": "application/json" };
  if ($("token").value) headers.authorization = `Bearer ${$("token").value}`;
  try {
    const answer = await fetch(at("publish"), { method: "POST", headers, body: JSON.stringify(draft()) });
    if (answer.status === 401 || answer.status === 403) askForToken();
    if (!answer.ok) return [await problem(answer), "bad"];
    const { id, subscribers } = await answer.json();
    return [`Published ${id} to ${subscribers} stream${subscribers === 1 ? "" : "s"}.`, ""];
  } catch (error) {
    return [`No answer: ${error.message}`, "bad"];
  }
}

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [text, className] = await publish();
  $("answer").className = className;
  $("answer").textContent = text;
});

$("data").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  $("publish").requestSubmit();
});

$("target").addEventListener("change", () => {
  const target = $("target").value;
  $("to").disabled = target === "all";
  $("to-label").textContent = target === "user" ? "User" : "Room";
  $("to").value = { room: $("room").value, user: $("user").value, all: "" }[target];
});

// Received events. A burst is drawn once a frame; the newest ROWS_MAX events are kept.

let waiting = [];
let count = 0;

function show(arrived) {
  count += 1;
  waiting.push(arrived);
  if (waiting.length === 1) requestAnimationFrame(draw);
  if (waiting.length > ROWS_MAX) waiting.shift();
}

function draw() {
  $("events").prepend(...waiting.reverse().map(row));
  waiting = [];
  while ($("events").childElementCount > ROWS_MAX) $("events").lastElementChild.remove();
  const shown = $("events").childElementCount;
  $("empty").hidden = shown > 0;
  $("count").textContent = count > shown ? `${count}, the newest ${shown} shown` : `${count}`;
}

function row({ name, id, data, own, time }) {
  const item = make("li", own ? `own ${name}` : "");
  const what = make("div", "what");
  const when = make("time", "", time.toLocaleTimeString());
  when.dateTime = time.toISOString();
  what.append(make("b", "", name), make("code", "", id), when);
  item.append(what);
  if (own) item.append(make("p", "hint", own));
  const more = data.length - CHARACTERS_MAX;
  item.append(make("pre", "", more > 0 ? `${data.slice(0, CHARACTERS_MAX)}\u2026 and ${more} characters more` : data));
  return item;
}

$("clear").addEventListener("click", () => {
  [waiting, count] = [[], 0];
  $("events").replaceChildren();
  $("empty").hidden = false;
  $("count").textContent = "";
  tell("");
});

// The same in JavaScript and in a terminal.

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function showCode() {
  const [path, query] = streamPath();
  const url = JSON.stringify(new URL(at(path)).pathname + (query.size ? `?${query}` : ""));
  const listening = names().map((name) => `stream.addEventListener(${JSON.stringify(name)}, show);\n`).join("");
  $("listen-code").textContent = `const stream = new EventSource(${url});\nstream.onmessage = show;\n${listening}`.trim();
  const authorization = $("access").hidden ? "" : " -H \"authorization: Bearer $token\"";
  $("publish-code").textContent = `curl ${at("publish")}${authorization} -d ${quote(JSON.stringify(draft()))}`;
}

for (const kind of ["input", "change"]) document.addEventListener(kind, showCode);
$("names").addEventListener("change", hear);
$("bring").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!source) $("listen").requestSubmit();
});
// On a small screen, received events are nearer to the top without them.
if (matchMedia("(max-width: 760px)").matches) for (const code of document.querySelectorAll("details")) code.open = false;
$("about").textContent = version && `version ${version}`;
if (tokenGoes !== "none") askForToken();
showCode();
