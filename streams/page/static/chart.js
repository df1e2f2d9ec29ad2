// uPlot in the page's colours: a line, and what is to be read beside it.
import uPlot from "./vendor/uPlot.esm.js";

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const HEAT = ["hot", "warm", "cold", "dead", "unclassified"];
const OTHERS = ["hot", "cold", "warm", "unclassified", "good", "plain", "dead"];
export const lineColour = (name, place) => colour(HEAT.includes(name) ? name : OTHERS[place % OTHERS.length]);

const axis = () => ({
  stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 },
  font: "11px system-ui, sans-serif",
});

const DAY = 86400, STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200];
const DAYS = [1, 2, 3, 5, 7, 14, 30].map((each) => each * DAY);

const two = (number) => String(number).padStart(2, "0");
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

// UTC, by how long a time is shown: seconds, minutes or days.
function instants(chart, splits) {
  const span = chart.scales.x.max - chart.scales.x.min;
  return splits.map((each) => {
    const at = new Date(each * 1000), time = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
    if (span > 2 * DAY) return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
    return span > 900 ? time : `${time}:${two(at.getUTCSeconds())}`;
  });
}

const drawn = new WeakMap(); // place → its chart, and of what it was drawn

// Once for each place: a chart that is not destroyed is kept by the window that it listens to. `told.marks` is what
// `told.draw` draws.
export function draw(place, told, data) {
  const of = JSON.stringify([data, told.series, told.marks, place.clientWidth, colour("line")]), before = drawn.get(place);
  if (before?.of === of) return;
  before?.chart.destroy();
  const options = {
    width: place.clientWidth, height: told.height ?? 180, legend: { show: false }, cursor: { show: false },
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    scales: {
      x: { time: true, range: (_, least, most) => (least === most ? [least - 60, most + 60] : [least, most]) },
      y: { range: (_, least, most) => [Math.min(0, least), Math.max(1, most) * 1.08] },
    },
    axes: [{ ...axis(), values: instants, space: 70, incrs: (_, __, least, most) => (most - least > 2 * DAY ? DAYS : STEPS) }, { ...axis(), size: 44 }],
    series: [{}, ...told.series],
    hooks: { draw: told.draw ? [told.draw] : [] },
  };
  drawn.set(place, { chart: new uPlot(options, data, place), of });
}

export function across(chart, value, stroke, dash) {
  const y = chart.valToPos(value, "y", true), { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

export function upright(chart, value, stroke) {
  const x = chart.valToPos(value, "x", true), { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

// Draws again when the window gets another width, or colours change.
export function again(redraw) {
  let width = innerWidth, timer = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(redraw, 100);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
