/**
 * The AI: the answer whose id is in the address, read from its room while it is written and from the application once it is
 * over.
 */
import { connect } from "/api/v1/sse/client.js";
import { api, token } from "/api.js";
import { language, sorry, t, when } from "/i18n.js";
import { make, say, showState, start } from "/shell.js";

const SPEAK_EVERY_MS = 5000;
/** How often the application is asked whether an answer is over. */
const ASK_EVERY_MS = 15_000;
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
const count = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const at = (id) => document.querySelector(`#${id}`);

/** The text that is drawn, and the cursor behind it. */
const drawn = document.createTextNode("");
const cursor = make("span", { className: "cursor", ariaHidden: "true" });

class Answer {
  text = "";
  /** How long the text is as UTF-8. */
  bytes = 0;
  /** How much of the text is drawn: a typewriter is a little behind. */
  shown = 0;
  /** How much was read out to screen readers. */
  spoken = 0;
  spokenAt = 0;

  constructor(about) {
    this.about = about;
    at("answer").hidden = false;
    at("asked").textContent = about.question;
    at("by").textContent = t("ai.by", { name: about.user, time: when(about.since) });
    this.setState(about.state);
    if (about.state != "running") return this.replace(about.text ?? "");
    this.stream = connect({
      rooms: `ai-${about.id}`,
      token,
      // What is missing here, the application has in the end.
      onGap: () => say(t("ai.part")),
    });
    showState(this.stream);
    this.stream.on("words", ({ data }) => this.add(data));
    // All that was said before this page came. It is no news, so it is not typed.
    this.stream.on("replayed", () => (this.shown = this.text.length));
    this.stream.on("end", () => this.look());
    // If Tidegate or the application was away, the end may have been lost.
    this.stream.watch(({ state }) => state == "open" && this.look());
    this.asking = setInterval(() => this.look(), ASK_EVERY_MS);
  }

  /** Adds a piece that begins at `from`, in bytes. If Tidegate was restarted meanwhile, all pieces may come again. */
  add({ from, text }) {
    if (from < this.bytes) return;
    this.text += text;
    this.bytes = from + new TextEncoder().encode(text).length;
  }

  /** Where nothing more comes, no stream is needed, and the bar has nothing to say of one. */
  close() {
    this.stream?.close();
    clearInterval(this.asking);
    at("state").textContent = "";
  }

  /** Asks the application whether the answer is over. It stores an answer before it publishes the end. */
  async look() {
    const about = await api(`ai/${this.about.id}`).catch(() => null);
    if (!about || about.state == "running" || answer != this) return;
    this.close();
    // The same, unless there was a gap. Of an answer that was lost there is no text, and what was read stays.
    if (about.text && about.text != this.text) this.replace(about.text);
    this.setState(about.state);
    loadLately();
  }

  replace(text) {
    this.text = text;
    this.shown = text.length;
  }

  setState(state) {
    this.about.state = state;
    at("answer").dataset.state = state;
    at("how").textContent = t(`ai.state.${state}`);
    at("bar").hidden = state != "running";
    at("stop").hidden = state != "running" || this.about.user != me.user;
    this.speak(true);
  }

  draw() {
    const behind = this.text.length - this.shown;
    // Faster the further it is behind. Not at all for whoever wants nothing to move.
    this.shown += isCalm.matches || document.hidden ? behind : Math.ceil(behind / 12);
    // Half a character is none.
    if (/[\ud800-\udbff]/.test(this.text[this.shown - 1])) this.shown += 1;
    if (drawn.length != this.shown) {
      // Follow the end, unless the reader has scrolled back.
      const box = at("text");
      const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      drawn.data = this.text.slice(0, this.shown);
      if (isAtEnd) box.scrollTop = box.scrollHeight;
    }
    if (this.about.state != "running") {
      at("count").textContent = t("ai.count.done", { words: count.format(this.text.length) });
    } else {
      const seconds = count.format((Date.now() - this.about.since) / 1000);
      at("count").textContent = t("ai.count", { words: count.format(this.text.length), seconds });
      this.speak(false);
    }
  }

  /** Reads out whole sentences, every few seconds. */
  speak(isNews) {
    if (!isNews && Date.now() < this.spokenAt + SPEAK_EVERY_MS) return;
    const running = this.about.state == "running";
    const until = running ? Math.max(...[...".。!?\n"].map((end) => this.text.lastIndexOf(end))) + 1 : this.text.length;
    const sentences = this.text.slice(this.spoken, until);
    if (!isNews && !sentences) return;
    at("spoken").textContent = isNews ? `${sentences} ${at("how").textContent}` : sentences;
    this.spoken = Math.max(until, this.spoken);
    this.spokenAt = Date.now();
  }
}

const me = await start();
at("text").append(drawn, cursor);
let answer = null;
requestAnimationFrame(function draw() {
  answer?.draw();
  requestAnimationFrame(draw);
});

/** Shows the answer in the address. */
async function open() {
  const id = location.hash.slice(1);
  answer?.close();
  answer = null;
  drawn.data = "";
  at("answer").hidden = true;
  if (!id) return;
  try {
    const about = await api(`ai/${encodeURIComponent(id)}`);
    if (location.hash.slice(1) == id) answer = new Answer(about);
  } catch (error) {
    say(sorry(error));
  }
}

async function loadLately() {
  const { model, answers } = await api("ai");
  at("model").textContent = model ? t("ai.model", { model }) : t("ai.model.none");
  at("none").hidden = answers.length > 0;
  const items = answers.map(({ id, user, question, state, since }) => {
    const link = make("a", { href: `#${id}` }, make("span", { className: "asked" }, question));
    const how = make("span", { className: "hint" }, `${t("ai.by", { name: user, time: when(since) })} · ${t(`ai.state.${state}`)}`);
    return make("li", {}, link, how);
  });
  at("lately").replaceChildren(...items);
}

const question = at("question");
at("ask").onsubmit = async (event) => {
  event.preventDefault();
  const button = at("ask").querySelector("button");
  button.disabled = true;
  try {
    const { id } = await api("ai", { body: { question: question.value } });
    question.value = "";
    location.hash = id;
    await loadLately();
  } catch (error) {
    say(sorry(error));
  } finally {
    button.disabled = false;
  }
};
question.onkeydown = (event) => {
  if (event.key != "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("ask").requestSubmit();
};
at("stop").onclick = () => api(`ai/${answer.about.id}/running`, { method: "DELETE" }).catch((error) => say(sorry(error)));

addEventListener("hashchange", open);
await Promise.all([open(), loadLately()]);
