/**
 * Search: a list of what was found, each a way to the message.
 */
import { api } from "/api.js";
import { sorry, t, when } from "/i18n.js";
import { make, say } from "/shell.js";
import { nameOf } from "/chat/places.js";

/** Lets `form` search. `open` opens a place and returns its panel. */
export function prepareSearch(form, open) {
  form.onsubmit = async (event) => {
    event.preventDefault();
    const q = form.q.value.trim();
    if (!q) return;
    try {
      show(q, (await api(`chat/search?${new URLSearchParams({ q })}`)).messages);
    } catch (error) {
      say(sorry(error));
    }
  };

  function show(q, messages) {
    const dialog = make("dialog", { className: "search" });
    const items = messages.map(({ id, place, from, text }) => {
      const where = make("p", { className: "by" }, make("strong", {}, from), ` · ${nameOf(place)} · ${when(id / 1000)}`);
      const button = make("button", { type: "button" }, where, marked(text, q));
      button.onclick = async () => {
        dialog.close();
        const panel = open(place);
        await panel.loaded;
        panel.element.scrollIntoView({ inline: "start", block: "nearest" });
        panel.goTo(id);
      };
      return make("li", {}, button);
    });
    const title = make("h2", { id: "found-title" }, t("chat.found", { count: messages.length, q }));
    dialog.append(make("form", { method: "dialog" }, title, make("ul", {}, ...items), make("button", {}, t("close"))));
    dialog.setAttribute("aria-labelledby", "found-title");
    dialog.onclose = () => dialog.remove();
    document.body.append(dialog);
    dialog.showModal();
  }
}

/** The text, with what was looked for marked. */
function marked(text, q) {
  const line = make("p", { className: "text" });
  const at = text.toLowerCase().indexOf(q.toLowerCase());
  // The beginning may be far away.
  const from = Math.max(0, at - 40);
  if (at < 0) line.append(text.slice(0, 200));
  else line.append(from ? "…" : "", text.slice(from, at), make("mark", {}, text.slice(at, at + q.length)), text.slice(at + q.length, at + 160));
  return line;
}
