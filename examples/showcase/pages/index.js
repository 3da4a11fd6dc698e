/** The start: a card for each page. */
import { t } from "/i18n.js";
import { make, PAGES, start } from "/shell.js";

const cards = PAGES.map((page) => {
  const link = make("a", { href: `/${page}/` }, make("h2", {}, t(`${page}.title`)), make("p", {}, t(`${page}.card`)));
  return make("li", {}, link);
});
document.querySelector(".cards").append(...cards);
await start({ needsName: false });
