// The page to try things on, by the client that any page can load. Others publish the events: they go into the page as
// text, never as markup.

const ROWS_MAX = 200;
const CHARACTERS_MAX = 4000;

const $ = (id) => document.getElementById(id);
const { base, token: asked, version } = document.body.dataset;
const authenticates = asked !== "none";
const at = (path) => new URL((base && `${base}/`) + path, document.baseURI).href;
const url = at("").replace(/\/$/, "");
const client = () => import(at("client.js"));
const token = () => $("token").value || undefined;
const needsToken = (status) => status === 401 || status === 403;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// The page's states.

const STATES = {
  idle: "Not listening", connecting: "Connecting", open: "Listening", offline: "No network", overload: "Refused for now",
  closed: "Closed",
};

function setState(state) {
  if (document.body.dataset.state !== state) $("status").textContent = STATES[state];
  document.body.dataset.state = state;
}

function tell(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function askForToken() {
  $("access").hidden = false;
}

// Listening.

// Texts for the server's own events.
const OWN = Object.assign(Object.create(null), {
  connected: () => "The stream is open.",
  replayed: ({ events }) => `${events} events were there before.`,
  gap: ({ reason }) => `Events may be missing (${reason}). Your own page now fetches the current state from your application.`,
  overload: ({ reason }) => `The server does not take this stream for now (${reason}). The page comes back by itself.`,
  closing: ({ reason }) => reason === "disconnected"
    ? "The application ended this stream. The page does not come back."
    : `The server ends this stream (${reason}). The page comes back by itself.`,
  expiring: ({ expires_in_s: seconds }) => `The token expires in ${seconds} s. Your own page now refreshes it.`,
  muted: ({ room }) => `This user may not publish to ${room} for now.`,
  presence: () => "Who is there has changed.",
});

let stream = null;
let isOverloaded = false;
// What the server said of the last refusal, for people.
let refusal = "";

function listening() {
  const [rooms, user] = [$("room").value, $("user").value];
  return { rooms, ...(user && { user }), ...($("history").checked && { history: 20 }) };
}

async function open() {
  setState("connecting");
  const { connect } = await client().catch((error) => {
    tell("The client for streams could not be loaded. Reload this page.");
    stop("closed");
    throw error;
  });
  if (document.body.dataset.state !== "connecting") return;
  // Texts arrive as they were sent: this page shows them.
  stream = connect({ url, ...listening(), token: token(), parse: "text", onError: refused });
  stream.onAny(take);
  for (const name of Object.keys(OWN)) if (name !== "gap") stream.on(name, take);
  stream.watch(watch);
}

function take({ type, id, data }) {
  const own = OWN[type]?.(data);
  if (type === "connected" || type === "overload") isOverloaded = type === "overload";
  if (own && type !== "connected") tell(own);
  show({ name: type, id: id ?? "", data: own ? JSON.stringify(data) : data, own, time: new Date() });
}

function refused({ status, code, message }) {
  if (!status) return;
  refusal = `${status} ${code}: ${message}.`;
  if (needsToken(status)) askForToken();
}

const CLOSED = {
  disconnected: "204: the application disconnected this user. New streams are refused for now.",
  replaced: "Another page of this user took the place of this stream.",
};

function watch({ state, reason }) {
  if (!stream) return;
  if (state === "connecting" || state === "waiting") return setState(isOverloaded ? "overload" : "connecting");
  if (state !== "closed") return setState(state);
  tell(CLOSED[reason] ?? refusal);
  stop("closed");
}

function stop(state) {
  const old = stream;
  stream = null;
  old?.close();
  setState(state);
  showListening();
}

function showListening() {
  $("toggle").textContent = stream ? "Stop" : "Listen";
  // Not disabled: a field in which Enter was pressed would lose the focus.
  for (const id of ["room", "user"]) $(id).readOnly = !!stream;
  document.body.toggleAttribute("data-listening", !!stream);
}

$("listen").addEventListener("submit", async (event) => {
  event.preventDefault();
  tell("");
  if (stream || document.body.dataset.state === "connecting") return stop("idle");
  await open();
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

async function send() {
  try {
    const { publish } = await client();
    const { id, subscribers } = await publish(url, draft(), { token: token() });
    return [`Published ${id} to ${subscribers} stream${subscribers === 1 ? "" : "s"}.`, ""];
  } catch ({ status, code, message }) {
    if (needsToken(status)) askForToken();
    return [status ? `${status} ${code}: ${message}.` : `No answer: ${message}`, "bad"];
  }
}

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [text, className] = await send();
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
  const path = new URL(url).pathname.replace(/\/$/, "");
  const options = Object.entries({ ...(path !== "/api/v1/sse" && { url: path }), ...listening() });
  const written = options.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ");
  $("listen-code").textContent = `import { connect } from "${path}/client.js";\n\n`
    + `const stream = connect({ ${written} });\nstream.onAny(({ type, data }) => console.log(type, data));`;
  const authorization = $("access").hidden ? "" : " -H \"authorization: Bearer $token\"";
  $("publish-code").textContent = `curl ${at("publish")}${authorization} -d ${quote(JSON.stringify(draft()))}`;
}

for (const kind of ["input", "change"]) document.addEventListener(kind, showCode);
$("bring").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!stream) $("listen").requestSubmit();
});
// On a small screen, received events are nearer to the top without them.
if (matchMedia("(max-width: 760px)").matches) for (const code of document.querySelectorAll("details")) code.open = false;
$("about").textContent = version && `version ${version}`;
if (authenticates) askForToken();
showCode();
