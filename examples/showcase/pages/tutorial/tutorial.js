/**
 * The tutorial: how the other pages are built. The texts come from `docs/tutorial`, in the language of this page.
 */
import { language, sorry, t } from "/i18n.js";
import { make, say, start } from "/shell.js";

const NAMES = ["first-page", "chat", "notifications", "progress", "ai"];

await start({ needsName: false });
const text = document.querySelector("#text");
const links = NAMES.map((name) => make("a", { href: `#${name}` }, t(`tutorial.name.${name}`)));
document.querySelector("#texts").append(...links);

const wanted = () => NAMES.find((name) => name == location.hash.slice(1)) ?? NAMES[0];

async function show() {
  const name = wanted();
  links.forEach((link, n) => (link.ariaCurrent = NAMES[n] == name ? "page" : null));
  links[NAMES.indexOf(name)].scrollIntoView({ block: "nearest", inline: "center" });
  try {
    const answer = await fetch(`/app/tutorial/${language}/${name}`);
    if (!answer.ok) throw await answer.json();
    const html = await answer.text();
    // Meanwhile another one was chosen.
    if (name != wanted()) return;
    text.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    prepare();
    text.ariaBusy = "false";
    document.title = `${t(`tutorial.name.${name}`)} · ${t("brand")}`;
    scrollTo(0, 0);
  } catch (error) {
    say(sorry(error));
  }
}

/** What Markdown does not say. */
function prepare() {
  // Long lines scroll. Without this, only a mouse could do that.
  for (const code of text.querySelectorAll("pre")) code.tabIndex = 0;
  // The name of the file that the code is from stands on top of it.
  for (const line of text.querySelectorAll("p")) {
    line.classList.toggle("file", line.childNodes.length == 1 && line.firstChild.nodeName == "CODE");
  }
  // The end of a line in a paragraph is shown as a space. Chinese has none there.
  const nodes = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    const node = nodes.currentNode;
    if (!node.parentNode.closest("pre")) node.data = node.data.replace(/(?<=[^\x00-\x7f])\n|\n(?=[^\x00-\x7f])/g, "");
  }
}
onhashchange = show;
await show();
