// Curves of scores; and what is read from the log, which may take a moment.
import { across, again, colour, draw, upright } from "./chart.js";
import { inside } from "./morph.js";

const STORY_MS = 15000; // the log is long: what moved no segment may be seen a little later

function curves() {
  for (const figure of document.querySelectorAll("figure:has(.curve)")) {
    const told = JSON.parse(figure.querySelector(".curve").content.textContent);
    const past = told.values.map((value, n) => (told.at[n] <= told.now ? value : null));
    const future = told.values.map((value, n) => (told.at[n] >= told.now ? value : null));
    const series = [
      { stroke: colour("hot"), width: 2, points: { show: false } },
      { stroke: colour("hot"), width: 2, dash: [5, 4], points: { show: false } },
    ];
    const most = Math.max(...told.values);
    draw(figure.querySelector(".chart"), {
      series,
      marks: [told.now, told.crossings],
      draw: (chart) => {
        upright(chart, told.now, colour("quiet"));
        for (const each of told.crossings) if (each.needs <= most * 1.08) across(chart, each.needs, colour("cold"), [2, 3]);
      },
    }, [told.at, past, future]);
  }
}

let reading = false, read = -Infinity;

async function story() {
  const place = document.getElementById("story");
  if (reading || !place) return;
  reading = true;
  read = performance.now();
  try {
    const answer = await fetch(place.dataset.from, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("story");
    inside(place, fresh);
  } catch {
    if (!place.querySelector("ol")) place.textContent = "The log cannot be read at the moment. Reload to try again.";
  } finally {
    reading = false;
  }
}

curves();
story();
again(curves);
document.addEventListener("read", () => {
  curves();
  if (performance.now() - read > STORY_MS) story();
});
document.addEventListener("changed", story);
