// Sizes of segments, or other numbers by name, over time.
import { again, draw, lineColour } from "./chart.js";

function sizes() {
  const place = document.getElementById("sizes-chart");
  if (!place) return; // there is nothing to draw yet
  const told = JSON.parse(document.getElementById("sizes-data").content.textContent);
  const series = told.series.map((each, n) => ({ stroke: lineColour(each.segment, n), width: 2, points: { show: told.at.length < 3 } }));
  for (const each of document.querySelectorAll(".legend [data-line]")) {
    const n = Number(each.dataset.line);
    each.style.setProperty("--line-colour", lineColour(told.series[n]?.segment, n));
  }
  const values = told.series.map((each) => each.values);
  if (told.at.length === 1) { // else it would stand at the left of an empty day
    const [at] = told.at;
    draw(place, { series, height: 220 }, [[at - 60, at, at + 60], ...values.map(([only]) => [null, only, null])]);
  } else draw(place, { series, height: 220 }, [told.at, ...values]);
}

sizes();
again(sizes);
document.addEventListener("read", sizes);
