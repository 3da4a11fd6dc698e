// The live page. A stream brings one sample a second, the first five minutes at once; everything else is drawing.
// Names of rooms are what users chose: they go into the page as text, never as markup.
"use strict";

const WINDOW_MS = 300_000;
const STALE_MS = 4_000;
const RETRY_MS = 3_000;
const MINUS = "\u2212";
const NONE = "\u2013";

const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Numbers, each with its unit.

const plain = (n) => n.toLocaleString("en-US", { maximumFractionDigits: 0 });

function short(n) {
  const size = Math.abs(n);
  if (size >= 1e6) {
    const digits = size >= 1e8 ? 0 : size >= 1e7 ? 1 : 2;
    return `${(n / 1e6).toLocaleString("en-US", { maximumFractionDigits: digits })} M`;
  }
  if (size >= 1e5) return `${(n / 1e3).toLocaleString("en-US", { maximumFractionDigits: 0 })} k`;
  if (size >= 10 || Number.isInteger(n)) return plain(n);
  return n.toLocaleString("en-US", { maximumFractionDigits: size >= 0.1 ? 1 : 2 });
}

const UNITS = {
  count: [[1, ""], [1e5, "k", 1e3], [1e6, "M"]],
  rate: [[1, ""], [1e4, "k", 1e3], [1e6, "M"]],
  bytes: [[1, "B"], [1024, "KiB"], [1 << 20, "MiB"], [1 << 30, "GiB"]],
  time: [[1e-3, "\u00b5s"], [1, "ms"], [1e3, "s"]],
  cpu: [[0.01, "%"]],
};

// What a number of this kind is divided by, and the unit that then follows it.
function unitOf(kind, n) {
  let found = UNITS[kind][0];
  for (const step of UNITS[kind]) if (Math.abs(n) >= step[0]) found = step;
  return [found[2] ?? found[0], found[1]];
}

function parts(kind, n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return [NONE, ""];
  if (kind === "count") return [short(n), ""];
  if (kind === "rate") return [short(n), "/s"];
  const [divisor, unit] = unitOf(kind, n);
  const value = n / divisor;
  const digits = kind === "cpu" || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return [n === 0 ? "0" : value.toFixed(digits), unit];
}

const text = (kind, n) => {
  const [value, unit] = parts(kind, n);
  return unit && unit !== "/s" ? `${value} ${unit}` : value + unit;
};

const kib = (n) => (n === null ? NONE : `${(n / 1024).toFixed(2)} KiB`);

function duration(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

// What is known: samples by the server's own time, oldest first.

let samples = [];
let restarted = false;

const newest = () => samples[samples.length - 1];
const perSecond = (key) => (s) => s[key] / s.seconds;
const ratio = (a, b) => (b > 0 ? a / b : null);
// Of the last ten seconds, for what comes in waves: a large room is told how many are there every five.
function smoothed(key) {
  const last = samples.slice(-10);
  return last.reduce((all, s) => all + s[key], 0) / last.reduce((all, s) => all + s.seconds, 0);
}
const inWindow = (key) => samples.reduce((all, sample) => all + sample[key], 0);

function total(key) {
  const sums = new Map();
  for (const sample of samples) {
    for (const [reason, count] of Object.entries(sample[key])) sums.set(reason, (sums.get(reason) ?? 0) + count);
  }
  return sums;
}

// Tiles.

const TILES = [
  ["Connections", "count", (s) => s.connections, (s) =>
    `of ${plain(s.connections_max)}${change(s.opened, sum(s.closed))}`],
  ["Events in", "rate", perSecond("published"), (s) => `${short(s.history_events)} kept, ${text("bytes", s.history_bytes)}`],
  ["Deliveries", "rate", perSecond("delivered"), (s) => `${text("count", ratio(s.delivered, s.published))} for each event`],
  ["Latency p99", "time", (s) => s.p99_ms, (s) => `p50 ${text("time", s.p50_ms)}`],
  ["Sent", "bytes", perSecond("bytes"), (s) => `${text("bytes", ratio(s.bytes, s.delivered))} a delivery`, "/s"],
  ["CPU", "cpu", (s) => s.cpu, (s) => `${text("time", ratio(s.cpu * s.seconds * 1000, s.delivered))} a delivery`],
  ["Memory", "bytes", (s) => s.memory, (s) => `${kib(s.memory_per_connection)} a connection`],
  ["Behind", "count", (s) => s.lagging, (s) => `oldest unsent ${text("time", s.oldest_unsent_ms)}`],
];

// Rooms with rules. These are hidden for as long as there is nothing to say about them.
const RULE_TILES = [
  ["Members", "count", (s) => s.members, (s) => `in ${short(s.presence_rooms)} room${s.presence_rooms === 1 ? "" : "s"}`],
  ["Presence messages", "rate", () => smoothed("presence_messages"), () => `${short(inWindow("suppressed"))} suppressed`],
  ["Skipped events", "count", () => sum(Object.fromEntries(total("skipped"))), () =>
    byCount(total("skipped")).map(([reason, count]) => `${short(count)} ${reason}`).join(", ") || "none left out", "in 5 min"],
  ["Replayed publishes", "count", () => inWindow("replayed"), (s) =>
    `${short(s.claims)} key${s.claims === 1 ? "" : "s"} remembered`, "in 5 min"],
];

const change = (opened, closed) =>
  (opened ? `, +${short(opened)}` : "") + (closed ? `, ${MINUS}${short(closed)}` : "");

const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

const makeTiles = (id, figures) => figures.map(([title, ...figure]) => {
  const tile = make("div", "tile");
  const value = make("p", "value", NONE);
  const more = make("p", "more", "\u00a0");
  tile.append(make("h2", "", title), value, more);
  $(id).append(tile);
  return { tile, value, more, figure };
});

const tiles = [...makeTiles("tiles", TILES), ...makeTiles("rules", RULE_TILES)];

function showTiles(sample) {
  for (const { value, more, figure: [kind, of, rest, per] } of tiles) {
    const [number, unit] = parts(kind, of(sample));
    value.replaceChildren(number, make("small", "", unit + (per ?? "")));
    more.textContent = more.title = rest(sample);
  }
  // Once shown they stay, so that nothing jumps.
  if (sample.has_rules) $("rules").hidden = false;
  tiles[7].tile.classList.toggle("alarm", sample.lagging > 0);
}

// The summary that a phone shows first: whether all is well, and what the server does.

function verdict({ state, connections, lagging }) {
  const lost = [...total("dropped").values()].reduce((a, b) => a + b, 0);
  if (state === "draining") return "Draining: streams are closed";
  if (state === "full") return "Full: new connections are refused";
  if (lagging) return `${plain(lagging)} ${lagging === 1 ? "connection is" : "connections are"} behind`;
  if (lost) return `${short(lost)} dropped in five minutes`;
  return connections ? "" : "No connection yet";
}

function showSummary(sample) {
  const problem = verdict(sample);
  $("verdict").textContent = problem || "Every connection is up to date";
  $("summary").classList.toggle("warn", problem !== "" && sample.connections > 0);
  const rate = perSecond("delivered")(sample);
  const late = sample.p99_ms === null ? "" : `, 99 % of them within ${text("time", sample.p99_ms)}`;
  const present = sample.members ? `, ${short(sample.members)} present` : "";
  $("gist").textContent = `${short(sample.connections)} connected${present}, ${short(rate)} deliveries/s${late}. `
    + `CPU ${text("cpu", sample.cpu)}, memory ${text("bytes", sample.memory)}.`;
}

// Charts.

const SHARD_LINES_MAX = 12;
const LEGEND_MAX = 3;
const CHARTS = [
  ["Connections", "count", () => [["", (s) => s.connections]]],
  ["Events in", "rate", () => [["", perSecond("published")]]],
  ["Deliveries", "rate", () => [["", perSecond("delivered")]]],
  ["Latency", "time", () => [["p50", (s) => s.p50_ms], ["p99", (s) => s.p99_ms]]],
  ["Sent", "bytes", () => [["", perSecond("bytes")]], "/s"],
  ["CPU", "cpu", () => [["", (s) => s.cpu]]],
  ["CPU by shard", "cpu", (shards) => shards.map((n) => [`#${n}`, (s) => s.shards[n]?.cpu ?? null])],
  ["Memory", "bytes", () => [["", (s) => s.memory]]],
];

const PAD = { left: 54, right: 8, top: 8, bottom: 18 };
let colors = {};
// Time under the pointer, the same in all charts; null where there is none.
let looked = null;

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  colors = { rule: read("--rule"), muted: read("--muted"), text: read("--text"), card: read("--card"), font: read("--font"),
    lines: [0, 1, 2, 3, 4, 5].map((n) => read(`--c${n}`)) };
}

// A round step that makes at most four of `max`.
function niceStep(max) {
  const raw = max / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].find((nice) => nice * power >= raw * 0.999) * power;
}

class Chart {
  constructor([title, kind, lines, per]) {
    Object.assign(this, { title, kind, lines, per: per ?? "" });
    this.canvas = make("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.legend = make("output");
    const caption = make("figcaption");
    caption.append(make("h2", "", title), this.legend);
    const figure = make("figure");
    figure.append(caption, this.canvas);
    $("charts").append(figure);
    this.canvas.addEventListener("pointermove", (event) => look(this.timeAt(event.offsetX)));
    this.canvas.addEventListener("pointerleave", () => look(null));
    this.canvas.addEventListener("blur", () => look(null));
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") look(null);
      if (step && newest()) {
        look((looked ?? newest().up_ms) + step * 1000 * (event.shiftKey ? 10 : 1));
        event.preventDefault();
      }
    });
  }

  timeAt(x) {
    const width = this.canvas.clientWidth - PAD.left - PAD.right;
    return newest() ? newest().up_ms - WINDOW_MS * (1 - (x - PAD.left) / width) : null;
  }

  value(n) {
    return text(this.kind, n) + (n === null ? "" : this.per);
  }

  draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !samples.length) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = `11px ${colors.font}`;
    const shards = [...newest().shards.keys()].slice(0, SHARD_LINES_MAX);
    const lines = this.lines(shards).map(([name, of]) => ({ name, values: samples.map(of) }));
    const known = lines.flatMap((line) => line.values).filter((n) => n !== null && Number.isFinite(n));
    const end = newest().up_ms;
    const x = (at) => PAD.left + (width - PAD.left - PAD.right) * (1 - (end - at) / WINDOW_MS);
    const y = this.drawScale(pen, width, height, Math.max(0, ...known));
    this.drawTime(pen, width, height, x, end);
    lines.forEach((line, n) => this.drawLine(pen, line, n, lines.length, x, y));
    const at = samples.findLastIndex((sample) => looked === null || sample.up_ms <= looked + 500);
    if (looked !== null && at >= 0) this.drawLook(pen, lines, at, height, x, y, end);
    this.say(lines, at < 0 ? 0 : at, known);
  }

  drawScale(pen, width, height, max) {
    // The next unit in time: there is room for labels of three digits and their unit.
    const [divisor, unit] = unitOf(this.kind, max * 1.34 || 1);
    // Of whole things there are four at least.
    const least = this.kind === "cpu" || (!unit && divisor === 1) ? 4 : 0.4;
    const step = niceStep(Math.max(max / divisor, least) * 1.04);
    const top = Math.ceil((Math.max(max / divisor, least) * 1.04) / step) * step;
    const bottom = height - PAD.bottom;
    const y = (n) => bottom - ((bottom - PAD.top) * n) / divisor / top;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let tick = 0; tick <= top * 1.001; tick += step) {
      const level = Math.round(y(tick * divisor)) + 0.5;
      pen.strokeStyle = colors.rule;
      pen.beginPath();
      pen.moveTo(PAD.left, level);
      pen.lineTo(width - PAD.right, level);
      pen.stroke();
      const label = step < 1 ? tick.toFixed(step < 0.1 ? 2 : 1) : tick.toLocaleString("en-US");
      pen.fillStyle = colors.muted;
      pen.fillText(tick ? `${label}${unit && ` ${unit}`}` : "0", PAD.left - 6, level);
    }
    return y;
  }

  drawTime(pen, width, height, x, end) {
    pen.textBaseline = "bottom";
    pen.fillStyle = colors.muted;
    for (let minute = 0; minute < 5; minute += width > 300 ? 1 : 2) {
      pen.textAlign = minute ? "center" : "right";
      pen.fillText(minute ? `${MINUS}${minute} min` : "now", x(end - minute * 60_000), height - 1);
    }
    if (end <= WINDOW_MS) {
      // Time zero is when the server came up.
      pen.strokeStyle = colors.lines[1];
      pen.setLineDash([3, 3]);
      pen.beginPath();
      pen.moveTo(x(0), PAD.top);
      pen.lineTo(x(0), height - PAD.bottom);
      pen.stroke();
      pen.setLineDash([]);
      pen.textAlign = x(0) > width / 2 ? "right" : "left";
      pen.fillStyle = colors.lines[1];
      pen.fillText(restarted ? "restart" : "start", x(0) + (x(0) > width / 2 ? -5 : 5), PAD.top + 12);
    }
  }

  // One line; broken where samples or values are missing.
  drawLine(pen, line, n, of, x, y) {
    const runs = [];
    let before = null;
    samples.forEach((sample, at) => {
      const value = line.values[at];
      if (value === null || !Number.isFinite(value)) before = null;
      else {
        if (before === null || sample.up_ms - before > 2500) runs.push([]);
        runs[runs.length - 1].push([x(sample.up_ms), y(value)]);
        before = sample.up_ms;
      }
    });
    pen.strokeStyle = pen.fillStyle = colors.lines[n % colors.lines.length];
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    for (const run of runs) {
      pen.beginPath();
      run.forEach(([px, py]) => pen.lineTo(px, py));
      if (run.length === 1) pen.arc(...run[0], 1, 0, 7);
      pen.stroke();
      if (of > 2) continue;
      pen.lineTo(run[run.length - 1][0], y(0));
      pen.lineTo(run[0][0], y(0));
      pen.globalAlpha = 0.1;
      pen.fill();
      pen.globalAlpha = 1;
    }
    pen.lineWidth = 1;
  }

  drawLook(pen, lines, at, height, x, y, end) {
    const time = samples[at].up_ms;
    pen.strokeStyle = colors.muted;
    pen.beginPath();
    pen.moveTo(x(time), PAD.top);
    pen.lineTo(x(time), height - PAD.bottom);
    pen.stroke();
    lines.forEach(({ values }, n) => {
      if (values[at] === null) return;
      pen.fillStyle = colors.lines[n % colors.lines.length];
      pen.strokeStyle = colors.card;
      pen.beginPath();
      pen.arc(x(time), y(values[at]), 3.5, 0, 7);
      pen.fill();
      pen.stroke();
    });
    const clock = new Date(heardAt - (end - time)).toLocaleTimeString();
    const half = pen.measureText(clock).width / 2 + 4;
    const center = Math.min(Math.max(x(time), half), this.canvas.clientWidth - half);
    pen.fillStyle = colors.card;
    pen.fillRect(center - half, height - 15, 2 * half, 15);
    pen.fillStyle = colors.text;
    pen.textAlign = "center";
    pen.textBaseline = "bottom";
    pen.fillText(clock, center, height - 1);
  }

  // The values under the pointer, or the newest, in the legend and for screen readers.
  say(lines, at, known) {
    const values = lines.map(({ name, values: all }) => `${name} ${this.value(all[at])}`.trim());
    const keys = values.slice(0, LEGEND_MAX).map((value, n) => make("span", `k${n % colors.lines.length}`, value));
    this.legend.replaceChildren(...keys);
    const range = known.length ? `, from ${this.value(Math.min(...known))} to ${this.value(Math.max(...known))}` : "";
    this.canvas.setAttribute("aria-label", `${this.title} over five minutes: ${values.join(", ")}${range}`);
    this.canvas.dataset.points = known.length;
  }
}

const charts = CHARTS.map((chart) => new Chart(chart));
const drawCharts = () => charts.forEach((chart) => chart.draw());

function look(time) {
  looked = time;
  drawCharts();
}

// Tables.

function fill(id, rows, none) {
  const { tHead, tBodies: [body] } = $(id);
  if (!rows.length) {
    const cell = make("td", "none", none);
    cell.colSpan = tHead.rows[0].cells.length;
    rows = [make("tr")];
    rows[0].append(cell);
  }
  body.replaceChildren(...rows);
  // What scrolls can be reached by keyboard.
  const box = $(id).parentElement;
  box.tabIndex = box.scrollHeight > box.clientHeight ? 0 : -1;
}

function row(...cells) {
  const tr = make("tr");
  tr.append(...cells.map((cell) => (typeof cell === "string" ? make("td", "", cell) : cell)));
  tr.cells[0].title = tr.cells[0].textContent;
  return tr;
}

// The name of a room. Many differ only in their last letters, so a long one is cut in the middle. Other scripts may join
// letters or run to the left: they are cut at the end.
const NAME_END = 6;
function named(name) {
  if (!/^[!-~]{12,}$/.test(name)) return make("td", "", name);
  const cell = make("td");
  cell.append(make("span", "start", name.slice(0, -NAME_END)), name.slice(-NAME_END));
  return cell;
}

// A cell over a bar that shows which part of `max` a value is.
function bar(label, value, max, className) {
  const cell = typeof label === "string" ? make("td", className, label) : label;
  const track = make("span", "bar");
  const part = make("i");
  part.style.width = `${Math.min(100, (100 * (value ?? 0)) / (max || 1))}%`;
  track.append(part);
  cell.append(track);
  return cell;
}

function showTables(sample) {
  const { shards, rooms } = sample;
  const most = (of) => Math.max(1e-9, ...shards.map(of));
  const [connections, rate] = [most((s) => s.connections), most((s) => s.delivered)];
  fill("shards", shards.map((shard, n) => row(`${n}`,
    bar(plain(shard.connections), shard.connections, connections),
    bar(short(shard.delivered / sample.seconds), shard.delivered, rate, "c2"),
    bar(text("cpu", shard.cpu), shard.cpu, 1, "c1"))));
  const [busiest, fullest] = [rooms.busiest[0]?.per_s, rooms.fullest[0]?.connections];
  fill("busiest", rooms.busiest.map((r) => row(bar(named(r.room), r.per_s, busiest), short(r.per_s), plain(r.connections))),
    "No event in this second.");
  // Where there is presence, the fullest rooms show it.
  const hasMembers = rooms.fullest.some((r) => r.members !== undefined);
  const last = (r) => (!hasMembers ? short(r.per_s) : r.members === undefined ? NONE : plain(r.members));
  $("fullest").tHead.rows[0].cells[2].textContent = hasMembers ? "members" : "events/s";
  fill("fullest", rooms.fullest.map((r) => row(bar(named(r.room), r.connections, fullest), plain(r.connections), last(r))),
    "No connection.");
  const turns = rooms.round_s > 1.5 * sample.seconds
    ? `${plain(rooms.count)} rooms, looked at in turns: figures are up to ${Math.round(rooms.round_s)} s old. ` : "";
  const spared = $("rules").hidden ? "" : "Suppressed: changes of presence in five minutes that needed no message. ";
  $("turns").textContent = turns + spared;
  const closed = total("closed");
  fill("closed", byCount(closed).map(([reason, count]) => row(reason, plain(sample.closed[reason] ?? 0), plain(count))),
    "No stream was closed in five minutes.");
  const trouble = [["refused", "refused"], ["dropped", "dropped"], ["gaps", "gap"]].flatMap(([key, name]) =>
    byCount(total(key)).map(([reason, count]) =>
      row(`${name}: ${reason}`, plain(sample[key][reason] ?? 0), plain(count))));
  fill("trouble", trouble, "Nothing refused, nothing lost in five minutes.");
  const recent = samples.filter((s) => sum(s.closed) > 0).slice(-8).reverse();
  $("recent").replaceChildren(...recent.map((s) => {
    const age = Math.round((sample.up_ms - s.up_ms) / 1000);
    const item = make("li", "", age ? `${age} s ago ` : "just now ");
    item.append(make("b", "", Object.entries(s.closed).map(([reason, n]) => `${plain(n)} ${reason}`).join(", ")));
    item.title = item.textContent;
    return item;
  }));
}

const byCount = (sums) => [...sums].sort((a, b) => b[1] - a[1]);

// The stream, and what to say about it.

const STATES = { ready: "Ready", full: "Full", draining: "Draining", lost: "Connection lost" };
let heard = 0;
// The same moment by the clock on the wall.
let heardAt = 0;
let notice = "";

function setState(state, why) {
  const before = document.body.dataset.state;
  document.body.dataset.state = state;
  if (before !== state) $("status").textContent = STATES[state];
  const full = why || notice;
  if ($("notice").textContent !== full) $("notice").textContent = full;
  $("notice").hidden = !full;
  document.title = `${state === "ready" ? "" : `${STATES[state]} \u00b7 `}Tidegate`;
}

function show() {
  const sample = newest();
  const cores = sample.shards.length;
  $("about").textContent = `version ${sample.version} \u00b7 ${cores} shard${cores === 1 ? "" : "s"} \u00b7 `
    + `${plain(sample.rooms.count)} rooms \u00b7 up ${duration(sample.up_ms)}`;
  if (restarted && sample.up_ms > WINDOW_MS) notice = "";
  setState(sample.state);
  // What was a skeleton so far.
  document.body.classList.remove("waiting");
  document.querySelector("main").removeAttribute("aria-busy");
  showSummary(sample);
  showTiles(sample);
  showTables(sample);
  drawCharts();
}

let due = 0;
function take({ data: sample }) {
  if (newest() && sample.up_ms <= newest().up_ms) samples = [];
  samples.push(sample);
  samples = samples.filter((s) => sample.up_ms - s.up_ms <= WINDOW_MS);
  [heard, heardAt] = [performance.now(), Date.now()];
  // History comes as three hundred events at once, and is drawn once.
  clearTimeout(due);
  due = setTimeout(show, 20);
}

async function listen() {
  const { connect } = await import("./client.js").catch((error) => {
    lost("The client for streams could not be loaded. Reload this page.");
    throw error;
  });
  let refusal;
  const onError = ({ status }) => {
    refusal = status && "The server refused the stream: perhaps too many pages are open. Trying again.";
  };
  const backoff = { capMs: RETRY_MS };
  const stream = connect({ url: "dashboard", transport: "stream", staleMs: 2 * STALE_MS, backoff, onError });
  stream.on("sample", take);
  stream.on("gap", ({ data: { reason } }) => {
    if (reason === "restart" || reason === "unknown") {
      samples = [];
      restarted = true;
      notice = `The server was restarted; seen here at ${new Date().toLocaleTimeString()}. What was before is gone.`;
    }
  });
  stream.watch(({ state, reason }) => {
    if (state === "open") refusal = undefined;
    if (state !== "waiting" && state !== "offline" && state !== "closed") return;
    lost(reason === "drain" ? "The server closed its streams to end. Waiting for the next one." : refusal);
    // Where a client gives up, this page does not.
    if (state === "closed") setTimeout(stream.reconnect, RETRY_MS);
  });
}

// Said once: the notice is read out whenever it changes.
function lost(why) {
  if (why || document.body.dataset.state !== "lost") setState("lost", why ?? "No connection to the server. Trying again.");
}

setInterval(() => {
  const age = performance.now() - heard;
  if (!heard || age < STALE_MS) return;
  lost();
  $("about").textContent = `last heard from ${duration(age)} ago`;
}, 1000);

readColors();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  drawCharts();
});
new ResizeObserver(drawCharts).observe($("charts"));
listen();
