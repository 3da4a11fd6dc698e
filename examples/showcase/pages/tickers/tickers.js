/**
 * The ticker boards. Each has a stream of its own, and counts what reaches it.
 *
 * They cannot share one: a stream has one order, so each write of the busy room would bring along what the conflated room has.
 */
import { connect } from "/api/v1/sse/client.js";
import { language, t } from "/i18n.js";
import { make, showState, start } from "/shell.js";

const SECOND = 1000;
/** The rate is that of so many seconds: in a single one, a conflated room may have two rounds or none. */
const MEASURED_S = 4;
const SPEAK_EVERY_S = 20;

const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
const count = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const money = new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat(language, { style: "percent" });

class Board {
  cells = new Map();
  /** The newest of each price that is not drawn yet. */
  waiting = new Map();
  /** Events in each of the last seconds, and when it began; the current one first. A timer's seconds are longer than real ones. */
  seconds = [];

  constructor(room, name) {
    const title = make("h2", { id: room }, t(`tickers.${name}`));
    this.list = make("ul", { className: "prices" });
    this.list.setAttribute("aria-labelledby", room);
    this.element = make("section", { className: "sheet board" }, title, make("p", { className: "hint" }, t(`tickers.${name}.hint`)), this.list);
    this.element.setAttribute("aria-labelledby", room);
    document.querySelector(".boards").append(this.element);

    // The figure beside it says the same.
    this.bar = make("span", { className: "bar-fill" });
    this.rateText = make("span", { className: "rate" }, "–");
    document.querySelector("#rates").append(make("dt", {}, t(`tickers.${name}`)), make("dd", {}, make("span", { className: "bar-whole", ariaHidden: "true" }, this.bar), this.rateText));

    // Everybody may read these rooms, so there is no token. And no `onGap`: what is missed of a price is replaced by its next
    // change.
    this.stream = connect({ rooms: room });
    this.stream.watch(({ state }) => (this.element.dataset.state = state));
    this.stream.on("price", ({ data }) => this.take(data));
    // The prices of the beginning are no changes: the clock starts after them.
    this.stream.on("replayed", () => (this.seconds = []));
  }

  take(price) {
    if (this.seconds.length) this.seconds[0].events += 1;
    this.waiting.set(price.symbol, price);
  }

  /** Events a second, once there is a whole second. */
  get rate() {
    const whole = this.seconds.slice(1);
    if (!whole.length) return null;
    return (whole.reduce((sum, { events }) => sum + events, 0) / (this.seconds[0].at - whole.at(-1).at)) * SECOND;
  }

  nextSecond() {
    this.seconds = [{ events: 0, at: performance.now() }, ...this.seconds.slice(0, MEASURED_S)];
  }

  draw() {
    if (!this.waiting.size) return;
    // Read once, before anything changes: after each change the browser would work all styles out anew.
    const style = getComputedStyle(this.list);
    const [up, down] = ["--up", "--down"].map((name) => style.getPropertyValue(name));
    for (const { symbol, cents, opened } of this.waiting.values()) {
      const cell = this.cells.get(symbol) ?? this.add(symbol);
      const isUp = cents >= opened;
      cell.price.textContent = money.format(cents / 100);
      cell.move.textContent = isUp ? "▲" : "▼";
      cell.move.ariaLabel = t(isUp ? "tickers.up" : "tickers.down");
      if (cell.cents != null && cell.cents != cents && !isCalm.matches) {
        cell.element.animate([{ backgroundColor: cents > cell.cents ? up : down }, { backgroundColor: "transparent" }], 700);
      }
      cell.cents = cents;
      cell.element.dataset.move = isUp ? "up" : "down";
    }
    this.waiting.clear();
  }

  /** A cell for a price, in alphabetical order. */
  add(symbol) {
    const price = make("span", { className: "price" });
    const move = make("span", { className: "move", role: "img" });
    const element = make("li", {}, make("span", { className: "symbol" }, symbol), price, move);
    const after = [...this.cells].filter(([other]) => other > symbol).sort()[0]?.[1].element ?? null;
    this.list.insertBefore(element, after);
    this.cells.set(symbol, { element, price, move });
    return this.cells.get(symbol);
  }
}

await start({ needsName: false });
const conflated = new Board("ticker-conflated", "conflated");
const every = new Board("ticker-every", "every");
const boards = [conflated, every];
showState(every.stream);

// Events may come far more often than the screen is drawn, so they only wait here. That is what a page would do without
// conflation as well; but the events would be sent, and parsed, all the same.
let isPaused = false;
requestAnimationFrame(function draw() {
  if (!isPaused) boards.forEach((board) => board.draw());
  requestAnimationFrame(draw);
});

// What moves by itself has to be stoppable. The events are still counted.
const pause = document.querySelector("#pause");
pause.onclick = () => {
  isPaused = !isPaused;
  pause.ariaPressed = `${isPaused}`;
};

let seconds = 0;
setInterval(() => {
  boards.forEach((board) => board.nextSecond());
  if (boards.some((board) => board.rate == null || board.stream.status.state != "open")) return;
  const most = Math.max(every.rate, conflated.rate, 1);
  for (const board of boards) {
    board.bar.style.width = `${(board.rate / most) * 100}%`;
    board.rateText.textContent = t("tickers.rate", { rate: count.format(board.rate) });
  }
  const saved = t("tickers.saves", { part: percent.format(1 - Math.min(1, conflated.rate / (every.rate || 1))) });
  document.querySelector("#saved").textContent = saved;
  if (++seconds % SPEAK_EVERY_S == MEASURED_S) document.querySelector("#spoken").textContent = saved;
}, SECOND);
