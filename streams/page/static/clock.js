// What counts with the seconds: countdowns and ages, by the server's clock. wording.py says them likewise.
const MINUTE = 60, HOUR = 3600, DAY = 86400;
let ahead = 0; // ms by which the server's clock is ahead of ours

export function setClock(now) {
  if (now > 0) ahead = now - Date.now();
}

export function now() {
  return Date.now() + ahead;
}

export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)}:${String(whole % MINUTE).padStart(2, "0")}`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)} h ${Math.floor((whole % HOUR) / MINUTE)} min`;
  return `${Math.floor(whole / DAY)} d ${Math.floor((whole % DAY) / HOUR)} h`;
}

export function roughly(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [unit, size] of [["d", DAY], ["h", HOUR], ["min", MINUTE]]) {
    if (whole >= size) return `${Math.floor(whole / size)} ${unit}`;
  }
  return `${whole} s`;
}

const WORDS = {
  left: (at) => span((at - now()) / 1000),
  ago: (at) => `${roughly((now() - at) / 1000)} ago`,
};

function tick() {
  for (const each of document.querySelectorAll("time[data-clock]")) {
    const at = Date.parse(each.dateTime), text = WORDS[each.dataset.clock](at);
    if (each.textContent !== text) each.textContent = text;
    if (each.dataset.clock === "left") each.classList.toggle("soon", at - now() < 60000);
  }
}

export function runClock() {
  tick();
  setInterval(tick, 1000);
}
