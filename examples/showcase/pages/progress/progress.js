/**
 * Progress: the list of jobs is loaded once the stream is open, and the stream moves the bars.
 *
 * A state comes from the list or as an event, in whatever order: `isOlder` says which of two counts.
 */
import { connect } from "/api/v1/sse/client.js";
import { api, token } from "/api.js";
import { language, sorry, t, when } from "/i18n.js";
import { make, say, showState, start } from "/shell.js";

const SPEAK_EVERY_MS = 5000;
const percent = new Intl.NumberFormat(language, { style: "percent" });
const size = new Intl.NumberFormat(language, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 });

await start();
const { room, bytes_max: bytesMax, steps } = await api("progress");
const list = document.querySelector("#jobs");
/** The items of the list, by job. */
const items = new Map();

const stream = connect({ rooms: room, token });
showState(stream);
stream.on("job", ({ data }) => show(data));
// The room brings the newest state of what runs, and this brings what is over and forgotten there. After a gap, too: it comes
// with an opening.
stream.watch(({ state }) => state == "open" && load());
stream.on("gap", load);

async function load() {
  const { jobs } = await api("progress").catch(() => ({ jobs: null }));
  // Without an answer the next opening of the stream tries again.
  if (!jobs) return;
  const known = new Set(jobs.map(({ id }) => id));
  for (const [id, item] of items) if (!known.has(id) && item.job.state != "running") remove(id);
  jobs.forEach(show);
  document.querySelector("#none").hidden = items.size > 0;
}

function remove(id) {
  items.get(id).element.remove();
  items.delete(id);
}

/** What is over stays over, and a bar never goes back. */
const isOlder = (job, known) => (job.state == "running" ? known.state != "running" || job.done < known.done : false);

function show(job) {
  const item = items.get(job.id) ?? add(job);
  if (isOlder(job, item.job)) return;
  const before = item.job;
  item.job = job;
  const part = job.total ? job.done / job.total : 1;
  item.element.dataset.state = job.state;
  item.element.dataset.error = job.error ?? "";
  item.bar.value = part;
  item.part.textContent = percent.format(part);
  item.text.textContent = describe(job);
  item.running.hidden = item.stop.hidden = job.state != "running";
  item.link.hidden = job.state != "done";
  if (job.state != before.state) speak(`${job.name}: ${item.text.textContent}`, true);
  else if (job.state == "running") speak(`${job.name}: ${item.part.textContent}`);
}

function describe({ kind, state, step, error, done, total }) {
  if (state == "done") return t("progress.done");
  if (state == "failed") return sorry({ code: error, message: error });
  if (kind == "report") return step ? t(`progress.step.${step[0]}`, { nth: step[1], of: steps }) : t("progress.waiting");
  return t("progress.sent", { done: size.format(done / 1e6), total: size.format(total / 1e6) });
}

function add(job) {
  const bar = make("progress", { max: 1, value: 0 });
  bar.ariaLabel = job.name;
  const part = make("span", { className: "part" });
  const running = make("div", { className: "running" }, bar, part);
  const text = make("p", { className: "text" });
  const stop = make("button", { ariaLabel: t("progress.stop.of", { name: job.name }) }, t("progress.stop"));
  stop.onclick = () => api(`progress/${job.id}`, { method: "DELETE" }).catch((error) => say(sorry(error)));
  // `download` is what the browser calls the file. The server only says that it is one to save.
  const link = make("a", { href: `/app/progress/files/${job.id}`, download: job.name, className: "button" }, t("progress.open"));
  link.ariaLabel = t("progress.open.of", { name: job.name });
  const head = make("p", { className: "head" }, make("strong", {}, job.name), make("time", { className: "hint" }, when(job.since)));
  const element = make("li", { className: "sheet" }, head, running, text, stop, link);
  const item = { job: { ...job, done: 0 }, element, bar, part, running, text, stop, link };
  items.set(job.id, item);
  // The newest first, also if they come in another order.
  const after = [...items.values()].filter((one) => one.job.since < job.since).sort((a, b) => b.job.since - a.job.since)[0];
  list.insertBefore(element, after?.element ?? null);
  document.querySelector("#none").hidden = true;
  return item;
}

/** Tells screen readers how it goes: at once what has changed, and how far it is every few seconds. */
let spokenAt = 0;
function speak(text, isNews = false) {
  if (!isNews && Date.now() < spokenAt + SPEAK_EVERY_MS) return;
  spokenAt = Date.now();
  document.querySelector("#spoken").textContent = text;
}

const file = document.querySelector("#file");
const slow = document.querySelector("#slow");
document.querySelector("#bound").textContent = t("progress.bound", { size: size.format(bytesMax / 1e6) });

let sending = 0;
document.querySelector("#upload").onsubmit = async (event) => {
  event.preventDefault();
  const [chosen] = file.files;
  // The server refuses it as well, but a browser that is still sending may never read why.
  if (chosen.size > bytesMax) return say(t("error.file_too_large"));
  file.value = "";
  sending += 1;
  try {
    // The browser reads the file from the disk while it sends it. The bar shows what the server has: the only place that knows.
    await api(`progress/uploads?${new URLSearchParams({ name: chosen.name.slice(-120), is_slow: slow.checked })}`, { file: chosen });
  } catch (error) {
    // What was stopped says so in the list. So does what began and broke off.
    if (error.code && !/^(stopped|upload_broken)$/.test(error.code)) say(sorry(error));
    else if (!error.code) await load();
  } finally {
    sending -= 1;
  }
};
// A task goes on without this page. An upload cannot: the file is here.
addEventListener("beforeunload", (event) => sending && event.preventDefault());

document.querySelector("#report").onsubmit = async (event) => {
  event.preventDefault();
  await api("progress/reports", { method: "POST" }).catch((error) => say(sorry(error)));
};
