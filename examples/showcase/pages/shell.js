/**
 * What all pages have: the bar at the top, the form for a name, and the state of the stream.
 */
import { api } from "/api.js";
import { language, sorry, switchLanguage, t, translate } from "/i18n.js";

/** The pages: the folder of each, which is the beginning of the keys of its texts, too. */
export const PAGES = ["chat", "notifications", "progress", "ai", "monitor", "tickers", "tutorial"];

/** Makes an element with properties and children. Texts are texts, whatever they contain. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Draws the bar. Resolves to who is signed in: with `needsName` not before somebody is. */
export async function start({ needsName = true } = {}) {
  document.documentElement.lang = language;
  translate();
  const me = make("div", { className: "me" });
  const here = location.pathname.split("/")[1];
  const links = PAGES.map((page) => {
    const link = make("a", { href: `/${page}/` }, t(`${page}.title`));
    if (page == here) link.ariaCurrent = "page";
    return link;
  });
  const skip = make("a", { className: "skip", href: "#main" }, t("skip"));
  const brand = make("a", { className: "brand", href: "/" }, t("brand"));
  const nav = make("nav", { ariaLabel: t("pages") }, ...links);
  const change = make("button", { className: "quiet", onclick: switchLanguage, lang: language == "en" ? "zh" : "en" });
  change.textContent = t("language");
  const state = make("p", { id: "state", role: "status" });
  document.body.prepend(make("header", { className: "bar" }, skip, brand, nav, make("div", { className: "end" }, state, me, change)));
  // On a phone the pages are a row that scrolls.
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  const session = await api("session");
  const user = session.user || !needsName ? session : await askName(true);
  showName(me, user);
  return user;
}

function showName(place, { user }) {
  const out = make("button", { className: "quiet" }, t("sign.out"));
  out.onclick = async () => {
    await api("session", { method: "DELETE" });
    location.href = "/";
  };
  const choose = make("button", {}, t("sign.in"));
  choose.onclick = async () => showName(place, await askName(false));
  place.replaceChildren(...(user ? [make("strong", {}, user), out] : [choose]));
}

/** Shows the form for a name. Without `isNeeded` it can be closed. */
function askName(isNeeded) {
  const name = make("input", { id: "name", required: true, maxLength: 24, autocomplete: "nickname" });
  const told = make("p", { className: "error", role: "alert" });
  const away = make("button", { type: "button", className: "quiet" }, t("cancel"));
  const form = make(
    "form", { method: "dialog" },
    make("h2", { id: "sign-title" }, t("sign.in")),
    make("p", { className: "hint" }, t("sign.why")),
    make("label", { htmlFor: "name" }, t("sign.name")),
    name, told,
    make("div", { className: "row" }, away, make("button", { className: "strong" }, t("sign.go"))),
  );
  const dialog = make("dialog", {}, form);
  dialog.setAttribute("aria-labelledby", "sign-title");
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        const user = await api("session", { body: { name: name.value } });
        dialog.close();
        resolve(user);
      } catch (error) {
        told.textContent = sorry(error);
      }
    };
    away.onclick = () => dialog.close();
    dialog.onclose = async () => {
      dialog.remove();
      // Closed without a name, where one is needed: the start is the page that needs none.
      if (isNeeded && !(await api("session")).user) location.href = "/";
    };
  });
}

/** Shows in the bar how the stream is. */
export function showState(stream) {
  const place = document.querySelector("#state");
  const show = ({ state, reason }) => {
    place.dataset.state = state;
    // For whoever wonders why.
    place.title = reason ?? "";
    place.textContent = t(`state.${state}`);
  };
  show(stream.status);
  stream.watch(show);
}

/** Says something at the bottom of the page for some seconds. Screen readers say it at once. */
export function say(text) {
  const place = document.querySelector(".told") ?? make("div", { className: "told", role: "alert" });
  if (!place.isConnected) document.body.append(place);
  const line = make("p", {}, text);
  place.append(line);
  setTimeout(() => line.remove(), 6000);
}
