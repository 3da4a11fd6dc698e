/**
 * A chart of the last five minutes, in SVG: a line with an area below it, and its figures as text for whoever does not see it.
 */
import { t } from "/i18n.js";
import { make } from "/shell.js";

const SPAN_MS = 300_000;
/** A chart that has just begun would be a line at its edge. */
const SPAN_BEGIN_MS = 60_000;
/** Longer than this between two values is a hole, and no line goes over it. */
const HOLE_MS = 5000;
const WIDTH = 300;
const HEIGHT = 100;
/** The text for screen readers is not changed at each value: some read it anew each time. */
const LABEL_EVERY_MS = 10_000;

const svg = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

export class Chart {
  /** Times and values, the oldest first. `null` is a figure that there is not. */
  points = [];
  #labelledAt = 0;
  #more = "";

  /** `write` makes a text of a value. `top` is the end of the scale, if it is not that of the values. */
  constructor(name, { write, top }) {
    Object.assign(this, { name, write, top });
    this.value = make("p", { className: "value" }, "–");
    this.more = make("p", { className: "hint more" });
    this.scale = make("span");
    this.ago = make("span");
    const image = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.image = image;
    for (const part of [0.25, 0.5, 0.75]) image.append(svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part, class: "grid" }));
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    image.append(this.area, this.line);
    const axis = make("p", { className: "axis hint", ariaHidden: "true" }, this.ago, make("span", {}, t("monitor.now")));
    const plot = make("div", { className: "plot" }, image, this.scale);
    this.scale.ariaHidden = "true";
    this.element = make("section", { className: "sheet chart" }, make("h3", {}, name), this.value, this.more, plot, axis);
    this.element.ariaLabel = name;
  }

  add(at, value, more = "") {
    this.points.push([at, value]);
    while (this.points[0][0] < at - SPAN_MS) this.points.shift();
    this.#more = more;
  }

  /** The name and the newest value, as a text. */
  get now() {
    const value = this.points.at(-1)?.[1];
    return `${this.name} ${value == null ? "–" : this.write(value)}`;
  }

  draw() {
    const newest = this.points.at(-1);
    if (!newest) return;
    const values = this.points.map(([, value]) => value).filter((value) => value != null);
    const most = Math.max(...values, 0);
    const top = this.top ?? round(most);
    const span = newest[0] - this.points[0][0] < SPAN_BEGIN_MS ? SPAN_BEGIN_MS : SPAN_MS;
    this.ago.textContent = t("monitor.ago", { minutes: span / 60_000 });
    const x = (at) => (WIDTH - ((newest[0] - at) / span) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - (value / top) * (HEIGHT - 2)).toFixed(1);
    const runs = split(this.points);
    this.line.setAttribute("d", runs.map((run) => `M${run.map(([at, value]) => `${x(at)},${y(value)}`).join("L")}`).join(""));
    const areas = runs.map((run) => {
      const line = run.map(([at, value]) => `L${x(at)},${y(value)}`).join("");
      return `M${x(run[0][0])},${HEIGHT}${line}L${x(run.at(-1)[0])},${HEIGHT}Z`;
    });
    this.area.setAttribute("d", areas.join(""));
    this.scale.textContent = this.write(top);
    this.value.textContent = newest[1] == null ? "–" : this.write(newest[1]);
    this.more.textContent = this.#more;
    if (Date.now() < this.#labelledAt + LABEL_EVERY_MS || !values.length) return;
    this.#labelledAt = Date.now();
    const [now, low, high] = [values.at(-1), Math.min(...values), most].map(this.write);
    this.image.setAttribute("aria-label", t("monitor.label", { name: this.name, now, low, high }));
  }
}

/** The runs of points without a hole. */
function split(points) {
  const runs = [];
  let last = null;
  for (const point of points) {
    if (point[1] == null) last = null;
    else if (last && point[0] - last[0] <= HOLE_MS) runs.at(-1).push((last = point));
    else runs.push([(last = point)]);
  }
  return runs;
}

/** 1, 2 or 5 and zeros, at least as much as `value`: so a scale seldom jumps. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((one) => one * power).find((one) => one >= value);
}
