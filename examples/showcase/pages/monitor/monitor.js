/**
 * The monitor: a chart for each figure. The room brings the last five minutes, and then an event each second.
 */
import { connect } from "/api/v1/sse/client.js";
import { token } from "/api.js";
import { language, t } from "/i18n.js";
import { make, showState, start } from "/shell.js";
import { Chart } from "/monitor/chart.js";

const SPEAK_EVERY_MS = 30_000;

const format = (options) => {
  const formatter = new Intl.NumberFormat(language, { maximumFractionDigits: 0, ...options });
  return (value) => formatter.format(value);
};
const percent = format({ style: "percent" });
const whole = format({});
const compact = format({ notation: "compact", maximumFractionDigits: 1 });
const gigabytes = format({ style: "unit", unit: "gigabyte", maximumFractionDigits: 1 });
const perSecond = (value) => t("monitor.rate", { rate: compact(value) });
const kilobytes = format({ style: "unit", unit: "kilobyte", maximumFractionDigits: 1 });
const bytesPerSecond = (value) => t("monitor.rate", { rate: kilobytes(value / 1000) });

/** Each chart: its name, what of the data it draws, how it writes that, and the top of its scale if that is fixed. */
const figures = {
  machine: [
    ["cpu", ({ machine }) => machine.cpu_percent / 100, percent, 1, ({ machine }) => t("monitor.cpus", { count: machine.cpus })],
    ["memory", ({ machine }) => machine.memory_used / machine.memory_total, percent, 1, ({ machine }) => part(machine.memory_used, machine.memory_total)],
    ["disk", ({ machine }) => (machine.disk_total ? machine.disk_used / machine.disk_total : null), percent, 1, ({ machine }) => part(machine.disk_used, machine.disk_total)],
  ],
  tidegate: [
    ["connections", ({ tidegate }) => tidegate.connections, whole],
    ["published", ({ tidegate }) => tidegate.published_per_s, perSecond],
    ["delivered", ({ tidegate }) => tidegate.delivered_per_s, perSecond],
    ["bytes", ({ tidegate }) => tidegate.bytes_per_s, bytesPerSecond],
  ],
};

const part = (used, total) => (total ? t("monitor.of", { used: gigabytes(used / 1e9), total: gigabytes(total / 1e9) }) : "");

await start();
const charts = Object.entries(figures).flatMap(([place, rows]) =>
  rows.map(([name, read, write, top, more]) => {
    const chart = new Chart(t(`monitor.${name}`), { write, top });
    document.querySelector(`#${place}`).append(chart.element);
    return { chart, read, more };
  }),
);

const stream = connect({ rooms: "monitor", token });
showState(stream);

let isPaused = false;
let isDue = false;
stream.on("figures", ({ data }) => {
  for (const { chart, read, more } of charts) chart.add(data.at, read(data), more?.(data));
  // The beginning is hundreds of events. All of them are one drawing.
  if (!isDue) requestAnimationFrame(draw);
  isDue = true;
});

let spokenAt = Date.now();
function draw() {
  isDue = false;
  if (isPaused) return;
  for (const { chart } of charts) chart.draw();
  if (Date.now() < spokenAt + SPEAK_EVERY_MS) return;
  spokenAt = Date.now();
  document.querySelector("#spoken").textContent = charts.map(({ chart }) => chart.now).join(", ");
}

// What moves by itself has to be stoppable.
const pause = document.querySelector("#pause");
pause.onclick = () => {
  isPaused = !isPaused;
  pause.ariaPressed = `${isPaused}`;
  draw();
};
