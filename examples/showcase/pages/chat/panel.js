/**
 * One place of the chat on the page: its messages, who is there, and the form to write.
 */
import { api, newKey } from "/api.js";
import { sorry, t, when } from "/i18n.js";
import { make, say } from "/shell.js";
import { nameOf, pathOf } from "/chat/places.js";

/** How near the end of the log still counts as its end. */
const END_PX = 60;
/** Messages that stay on the page while more come: it may be open for days. */
const SHOWN_MAX = 300;
/** How often others are told that somebody types. */
const TYPING_MS = 3000;
const IMAGE_BYTES_MAX = 2 << 20;
/** Pauses before a message is sent again by itself. After that there is a button. */
const AGAIN_MS = [500, 1500];

export class Panel {
  /** Elements of the log by the id of their message. */
  #shown = new Map();
  /** Own messages without an answer yet, by key. */
  #pending = new Map();
  #hasMore = false;
  #isLoading = false;
  #olderSeen;
  #staysAtEnd = true;
  #quote = null;
  #image = null;
  #typedAt = 0;
  #unmute = 0;
  #isLoaded = () => {};
  /** Resolves when the first messages are there. */
  loaded = new Promise((done) => (this.#isLoaded = done));

  constructor(place, { me, people, askPerson, close, see }) {
    Object.assign(this, { place, me, people, askPerson, see });
    const title = make("h2", { id: `title-${place}`, tabIndex: -1 }, nameOf(place));
    const away = make("button", { className: "quiet", ariaLabel: t("chat.leave", { room: nameOf(place) }) }, "✕");
    away.onclick = () => close(place);
    this.here = make("div", { className: "here" });

    this.older = make("button", { className: "quiet older", hidden: true }, t("chat.older"));
    this.older.onclick = () => this.#loadOlder();
    this.log = make("div", { className: "log", role: "log", tabIndex: 0 }, this.older);
    this.log.setAttribute("aria-labelledby", title.id);
    // Scrolling to the first message brings those before it. Of several changes at once the last one counts.
    const look = (changes) => changes.at(-1).isIntersecting && this.#loadOlder();
    this.#olderSeen = new IntersectionObserver(look, { root: this.log });
    this.newest = make("button", { className: "newest", hidden: true }, t("chat.newest"));
    this.newest.onclick = () => this.#toEnd();
    this.log.onscroll = () => {
      this.#staysAtEnd = this.#isAtEnd();
      if (this.#staysAtEnd) this.newest.hidden = true;
    };
    // A phone's keyboard, another panel: who reads the newest message goes on reading it.
    new ResizeObserver(() => this.#staysAtEnd && this.#toEnd()).observe(this.log);

    this.typing = make("p", { className: "typing" });
    this.element = make(
      "section", { className: "panel sheet" },
      make("header", {}, title, this.here, away), this.log, this.newest, this.typing, this.#makeForm(),
    );
    this.element.setAttribute("aria-labelledby", title.id);
  }

  focus() {
    this.text.focus();
  }

  // What is there.

  /**
   * Loads the newest messages, in place of what is shown. After a `join`, the stream has brought what was said in the room since
   * its last event; what was said before that is not there, so there would be a hole.
   */
  async load() {
    const { messages, has_more, muted_until } = await api(pathOf(this.place));
    for (const [id, element] of this.#shown) {
      element.remove();
      this.#shown.delete(id);
    }
    for (const message of messages) this.show(message);
    this.#more(has_more);
    this.mute(muted_until);
    this.#toEnd();
    this.#isLoaded();
  }

  async #loadOlder() {
    if (this.#isLoading || !this.#hasMore) return;
    this.#isLoading = true;
    try {
      const before = Math.min(...this.#shown.keys());
      const { messages, has_more } = await api(`${pathOf(this.place)}?before=${before}`);
      // The reader keeps looking at the same message.
      const fromEnd = this.log.scrollHeight - this.log.scrollTop;
      for (const message of messages) this.show(message);
      this.#more(has_more);
      this.log.scrollTop = this.log.scrollHeight - fromEnd;
    } catch (error) {
      say(sorry(error));
    } finally {
      this.#isLoading = false;
    }
  }

  #more(hasMore) {
    this.#hasMore = hasMore;
    this.older.hidden = !hasMore;
    // Looks anew, because on a tall screen one page may not be enough.
    this.#olderSeen.unobserve(this.older);
    this.#olderSeen.observe(this.older);
  }

  /** Shows the message with this id, and loads older ones until it is there. */
  async goTo(id) {
    while (!this.#shown.has(id) && this.#hasMore) {
      const before = this.#shown.size;
      await this.#loadOlder();
      if (this.#shown.size == before) break;
    }
    const element = this.#shown.get(id);
    element?.scrollIntoView({ block: "center" });
    element?.classList.add("found");
    element?.querySelector("button")?.focus({ preventScroll: true });
  }

  /** Shows a message. What is shown already changes nothing, so it does not matter how often a message comes. */
  show(message) {
    this.#pending.get(message.key)?.remove();
    this.#pending.delete(message.key);
    if (this.#shown.has(message.id)) return;
    this.people.stopsTyping(this.place, message.from);
    this.see(this.place, message.id);
    this.#put(message.id, this.#draw(message));
  }

  /** A line that nobody said, after the newest message. */
  notice(text) {
    this.#put(Math.max(0, ...this.#shown.keys()) + 0.5, make("p", { className: "notice" }, text));
  }

  /** Puts an element into the log, in the order of ids. */
  #put(id, element) {
    const isAtEnd = this.#isAtEnd();
    element.dataset.id = id;
    const last = this.log.lastElementChild;
    let after = last;
    while (after.dataset.id > id) after = after.previousElementSibling;
    after.after(element);
    if (!element.classList.contains("notice")) this.#shown.set(id, element);
    const isNew = after == last;
    if (isAtEnd && isNew) this.#trim();
    if (isAtEnd) this.#toEnd();
    else if (isNew) this.newest.hidden = false;
  }

  /** Takes the oldest away. Scrolling back brings them again. */
  #trim() {
    while (this.#shown.size > SHOWN_MAX) {
      const oldest = this.older.nextElementSibling;
      this.#shown.delete(+oldest.dataset.id);
      oldest.remove();
      if (!this.#hasMore) this.#more(true);
    }
  }

  #isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < END_PX;
  }

  #toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.newest.hidden = true;
  }

  #draw({ id, from, text, quote, image }) {
    const isOwn = from == this.me.user;
    const article = make("article", { className: isOwn ? "message own" : "message" });
    const time = make("time", { dateTime: new Date(id / 1000).toISOString() }, when(id / 1000));
    const reply = make("button", { className: "quiet reply", ariaLabel: t("chat.reply.to", { name: from }) }, t("chat.reply"));
    reply.onclick = () => this.#answer({ id, from, text });
    article.append(make("p", { className: "by" }, make("strong", {}, from), " ", time, " ", reply));
    if (quote) {
      const cite = make("button", { className: "quote" }, make("strong", {}, quote.from), ` ${quote.text}`);
      cite.onclick = () => this.goTo(quote.id);
      article.append(cite);
    }
    if (text) article.append(make("p", { className: "text" }, text));
    if (image) article.append(this.#picture(image, from));
    return article;
  }

  #picture(image, from) {
    const href = `/app/chat/images/${image}`;
    const picture = make("img", { alt: t("chat.image.by", { name: from }) });
    // Its height is known only now.
    picture.onload = () => this.#staysAtEnd && this.#toEnd();
    picture.src = href;
    return make("a", { className: "picture", href, target: "_blank" }, picture);
  }

  // Who is there.

  drawPeople() {
    const { people, place } = this;
    if (place.startsWith("@")) {
      const status = people.status(place.slice(1));
      const label = make("span", { className: "chip" }, t(`chat.status.${status}`));
      label.dataset.status = status;
      this.here.replaceChildren(label);
    } else {
      const had = document.activeElement?.dataset?.person;
      const chips = people.in(place).map(({ name, status }) => {
        const isMe = name == this.me.user;
        const chip = make(isMe ? "span" : "button", { className: "chip" }, isMe ? t("chat.you", { name }) : name);
        chip.append(make("span", { className: "visually-hidden" }, ` ${t(`chat.status.${status}`)}`));
        Object.assign(chip.dataset, { status, person: name });
        if (!isMe) chip.onclick = () => this.askPerson(place, name);
        return chip;
      });
      const count = people.count(place);
      if (count > chips.length) chips.push(make("span", { className: "chip" }, t("chat.count", { count })));
      const hadFocus = this.here.contains(document.activeElement);
      this.here.replaceChildren(...chips);
      if (hadFocus) chips.find((chip) => chip.dataset.person == had)?.focus();
    }
    const names = people.typing(place);
    this.typing.textContent = names.length ? t("chat.typing", { names: names.join(", ") }) : "";
  }

  // Writing.

  #makeForm() {
    this.text = make("textarea", { rows: 1, maxLength: 2000, placeholder: t("chat.placeholder") });
    this.text.ariaLabel = t("chat.write", { room: nameOf(this.place) });
    const file = make("input", { type: "file", accept: "image/png,image/jpeg,image/gif,image/webp", hidden: true });
    const attach = make("button", { type: "button", className: "quiet", ariaLabel: t("chat.image.add"), title: t("chat.image.add") });
    attach.append(make("span", { className: "icon" }));
    attach.onclick = () => file.click();
    file.onchange = () => {
      this.#attach(file.files[0]);
      file.value = "";
    };
    this.extra = make("div", { className: "extra", hidden: true });
    this.send = make("button", { className: "strong" }, t("chat.send"));
    this.muted = make("p", { className: "muted", hidden: true, role: "status" });
    this.form = make("form", {}, this.muted, this.extra, make("div", { className: "write" }, attach, this.text, this.send, file));

    this.text.oninput = () => this.#tellTyping();
    this.text.onkeydown = (event) => {
      // While Chinese is being composed, Enter chooses a word.
      if (event.key != "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    };
    this.text.onpaste = ({ clipboardData: { files } }) => files.length && this.#attach(files[0]);
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.#submit();
    };
    return this.form;
  }

  #tellTyping() {
    if (!this.text.value.trim() || Date.now() - this.#typedAt < TYPING_MS) return;
    this.#typedAt = Date.now();
    // Nobody misses it, should this fail.
    api(`${pathOf(this.place)}/typing`, { method: "POST" }).catch(() => {});
  }

  #answer(quote) {
    this.#quote = quote;
    this.#showExtra();
    this.text.focus();
  }

  #attach(file) {
    if (file.size > IMAGE_BYTES_MAX) return say(t("error.image_invalid"));
    this.#image = file;
    this.#showExtra();
    this.text.focus();
  }

  /** What goes along with the message: a quote, an image. */
  #showExtra() {
    const items = [
      this.#quote && [`${this.#quote.from}: ${this.#quote.text}`, () => (this.#quote = null)],
      this.#image && [this.#image.name, () => (this.#image = null)],
    ];
    const lines = items.filter(Boolean).map(([text, forget]) => {
      const without = make("button", { type: "button", className: "quiet", ariaLabel: t("chat.without") }, "✕");
      without.onclick = () => {
        forget();
        this.#showExtra();
        this.text.focus();
      };
      return make("p", {}, make("span", {}, text), without);
    });
    this.extra.replaceChildren(...lines);
    this.extra.hidden = !lines.length;
  }

  #submit() {
    const draft = { text: this.text.value.trim(), quote: this.#quote, image: this.#image, key: newKey() };
    // A second click finds nothing to send.
    if (!draft.text && !draft.image) return;
    this.text.value = "";
    this.#quote = this.#image = null;
    this.#typedAt = 0;
    this.#showExtra();
    // Shown at once. The server's answer makes it a message.
    const line = make("article", { className: "message own pending" });
    line.append(make("p", { className: "by" }, make("strong", {}, this.me.user), " ", t("chat.sending")));
    line.append(make("p", { className: "text" }, draft.text || draft.image.name));
    line.dataset.id = Number.MAX_SAFE_INTEGER;
    this.log.append(line);
    this.#pending.set(draft.key, line);
    this.#toEnd();
    this.#deliver(draft, line);
  }

  /** Sends a draft. It may be sent as often as needed: with the same key it is one message. */
  async #deliver(draft, line) {
    const { from = this.me.user, text, quote, key } = draft;
    try {
      for (const pause of [...AGAIN_MS, null]) {
        try {
          draft.uploaded ??= draft.image && (await api("chat/images", { file: draft.image })).image;
          const body = { text, key, quotes: quote?.id, image: draft.uploaded };
          const { id } = await api(pathOf(this.place), { body });
          return this.show({ id, from, text, quote, key, image: draft.uploaded });
        } catch (error) {
          // The stream has brought the message: only the answer was lost.
          if (!this.#pending.has(key)) return;
          // Without a status there was no answer.
          if (pause == null || (error.status && error.status < 500)) throw error;
          await new Promise((go) => setTimeout(go, pause));
        }
      }
    } catch (error) {
      if (!error.status || error.status >= 500 || error.status == 429) this.#offerAgain(draft, line, error);
      else this.#takeBack(draft, line, error);
    }
  }

  #offerAgain(draft, line, error) {
    const again = make("button", {}, t("chat.again"));
    const failed = make("p", { className: "error", role: "alert" }, sorry(error), " ", again);
    again.onclick = () => {
      failed.remove();
      this.#deliver(draft, line);
    };
    line.append(failed);
  }

  /** The server does not want it as it is: the text goes back to where it was written. */
  #takeBack({ text, quote, image, key }, line, error) {
    line.remove();
    this.#pending.delete(key);
    if (!this.text.value) this.text.value = text;
    this.#quote ??= quote;
    this.#image ??= image;
    this.#showExtra();
    say(sorry(error));
  }

  /** Nothing can be said here until `until`, or again if that is `null`. */
  mute(until) {
    clearTimeout(this.#unmute);
    const ms = until - Date.now();
    const isMuted = ms > 0;
    this.muted.hidden = !isMuted;
    this.text.disabled = this.send.disabled = isMuted;
    if (!isMuted) return;
    this.muted.textContent = t("chat.muted", { time: when(until) });
    this.#unmute = setTimeout(() => this.mute(null), ms);
  }
}
