// Measurements for the tests of the live page, in the browser. Loaded before the page's own script.
"use strict";

const layout = {
  shifts: 0,

  // Returns the places of all headings.
  headings() {
    const place = (heading) => {
      const { left, top } = heading.getBoundingClientRect();
      return [heading.textContent, Math.round(left + scrollX), Math.round(top + scrollY)];
    };
    const headings = [...document.querySelectorAll("h1, h2, thead th:first-child")];
    return headings.filter((heading) => heading.checkVisibility()).map(place);
  },

  // Returns faults of the rows that `selector`'s children form: fewer in one than in another, or of unlike size.
  rows(selector) {
    const boxes = [...document.querySelector(selector).children].map((child) => child.getBoundingClientRect());
    const rows = Map.groupBy(boxes, (box) => Math.round(box.top));
    const counts = [...rows.values()].map((row) => row.length);
    const sizes = new Set(boxes.map((box) => `${Math.round(box.width)} x ${Math.round(box.height)}`));
    return new Set(counts).size === 1 && sizes.size === 1 ? [] : [`${selector}: rows of ${counts}, sizes ${[...sizes]}`];
  },

  // Returns faults of table cells: texts that come close to each other, or leave their card.
  cells() {
    const wrong = [];
    for (const row of document.querySelectorAll("tr")) {
      const card = row.closest("article").getBoundingClientRect();
      let before = -Infinity;
      for (const cell of row.cells) {
        const range = document.createRange();
        range.selectNodeContents(cell);
        const [text, box] = [range.getBoundingClientRect(), cell.getBoundingClientRect()];
        const clips = getComputedStyle(cell).overflowX === "hidden";
        const [left, right] = clips ? [box.left, Math.min(text.right, box.right)] : [text.left, text.right];
        if (left < before + 8) wrong.push(`${row.innerText}: ${cell.innerText} touches the cell before`);
        if (left < card.left || right > card.right) wrong.push(`${row.innerText}: ${cell.innerText} leaves its card`);
        before = right;
      }
    }
    return wrong;
  },

  // Returns labels of charts, for maxima of every size, that are wider than the space beside the chart.
  wideLabels() {
    const MAX = { count: 1e7, rate: 1e9, bytes: 5e11, time: 1e5, cpu: 64 };
    const wide = new Set();
    for (const chart of charts) {
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = `11px ${colors.font}`;
      pen.fillText = (label, right) => pen.measureText(label).width > right && wide.add(label);
      for (let max = 0.001; max < MAX[chart.kind]; max *= 1.07) chart.drawScale(pen, 300, 132, max);
    }
    return [...wide];
  },

  // Returns headings and figures of tiles that do not fit into their tile.
  cut() {
    const texts = [...document.querySelectorAll(".tile :is(h2, .value)")].filter((text) => text.checkVisibility());
    return texts.filter((text) => text.scrollWidth > text.clientWidth).map((text) => `${text.innerText} is cut off`);
  },

  // Returns everything that does not fit into the window's width.
  faults() {
    const wide = document.documentElement.scrollWidth;
    const over = wide > innerWidth ? [`the page is ${wide} wide in a window of ${innerWidth}`] : [];
    const rooms = ["busiest", "fullest"].map((id) => document.getElementById(id).parentElement);
    if (rooms.some((box) => box.scrollHeight > box.clientHeight)) over.push("ten rooms do not fit");
    const rules = document.querySelector("#rules").checkVisibility() ? this.rows("#rules") : [];
    return [...over, ...this.rows("#tiles"), ...rules, ...this.rows("#charts"), ...this.cells(), ...this.cut()];
  },

  // Shows a sample with long names, and the largest numbers. Returns what does not fit.
  crowded() {
    const sample = structuredClone(newest());
    const room = (n) => ({ room: `tenant-0042/projects/orders/europe-west-${n}`, connections: 1_000_000 - n, events: 1, per_s: 98_765.4 });
    sample.up_ms += 1;
    sample.rooms.busiest = sample.rooms.fullest = Array.from({ length: 10 }, (_, n) => room(n));
    sample.shards = Array.from({ length: 8 }, () => ({ connections: 125_000, delivered: 99_999, cpu: 0.98 }));
    Object.assign(sample, { connections: 1_000_000, connections_max: 1_000_000, published: 99_999, delivered: 987_654_321 });
    Object.assign(sample, { bytes: 9_876_543_210, memory: 9_876_543_210, memory_per_connection: 4_321 });
    if (sample.has_rules) sample.rooms.fullest = sample.rooms.fullest.map((room) => ({ ...room, members: 1_000_000 }));
    Object.assign(sample, { members: 1_000_000, presence_rooms: 98_765, presence_messages: 9_876_543, suppressed: 98_765_432 });
    Object.assign(sample, { skipped: { conflated: 987_654_321, latest: 98_765, unstored: 1 }, replayed: 9_876_543, claims: 1e7 });
    sample.refused = { too_many_connections: 9_876_543, bad_request: 1 };
    sample.closed = { max_age: 9_876_543, disconnected: 12 };
    samples.push(sample);
    show();
    return this.faults();
  },

  // Returns texts whose contrast is below the minimum of WCAG 2.2 AA.
  faint() {
    const channels = (color) => color.match(/[\d.]+/g).map(Number);
    const light = (color) => {
      const [r, g, b] = channels(color).map((n) => n / 255).map((n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      const color = element ? getComputedStyle(element).backgroundColor : "rgb(255, 255, 255)";
      return channels(color)[3] === 0 ? behind(element.parentElement) : color;
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const contrast = (element) => {
      const [one, other] = [light(getComputedStyle(element).color), light(behind(element))];
      return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    };
    const seen = [...document.body.querySelectorAll("*")].filter((element) => hasText(element) && element.checkVisibility());
    return seen.filter((element) => contrast(element) < 4.5).map((element) => `${element.textContent}: ${contrast(element)}`);
  },
};

new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) layout.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });

// The page's script has run, and no sample can be there yet.
addEventListener("DOMContentLoaded", () => {
  layout.first = document.body.classList.contains("waiting") ? layout.headings() : "not a skeleton";
});
