// Every page: clocks run, and what the page shows is read again: when the server says that something changed, or
// every few seconds. A page that nobody sees reads nothing: browsers have few connections for all of their tabs.
import { runClock, setClock } from "./clock.js";
import { morph } from "./morph.js";

const AGAIN_MS = 2000; // after a lost connection
const AT_LEAST_MS = 3000; // some things change without an event, or are sorted anew a little later
const APART_MS = 300; // between two readings
const OLD = "What you see may be old; trying again.";
const WORDS = { connecting: "connecting", live: "live", paused: "paused" };

const live = document.body.dataset.live; // where changes are told, or "polled": nothing here follows single changes
const isPolled = live === "polled";
let stream = null, isOn = false, reading = false, wanted = false, timer = 0, retry = 0;

function connection(state, why = "Connection lost.") {
  const told = document.getElementById("connection"), text = WORDS[state] ?? `${why} ${OLD}`;
  told.dataset.state = state;
  if (told.lastElementChild.textContent !== text) told.lastElementChild.textContent = text;
}

// What the server shows: also that there is no such account any more. Null: it asks to sign in. Throws what it says
// when it cannot answer.
async function fetched() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
  if (new URL(answer.url).pathname === "/sign-in") {
    location.assign(answer.url);
    return null;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (answer.status >= 500) throw new Error(`${fresh.querySelector("h1")?.textContent ?? answer.status}.`);
  return fresh;
}

async function read() {
  if (reading) {
    wanted = true;
    return;
  }
  reading = true;
  wanted = false;
  clearTimeout(timer);
  let pause = AT_LEAST_MS;
  try {
    const fresh = await fetched();
    if (fresh === null) return;
    setClock(Number(fresh.documentElement.dataset.now));
    morph(document.getElementById("content"), fresh.getElementById("content"));
    document.dispatchEvent(new CustomEvent("read"));
    if (isOn && (isPolled || stream?.readyState === EventSource.OPEN)) connection("live");
  } catch (error) {
    pause = AGAIN_MS;
    if (isOn) connection("lost", error instanceof TypeError ? undefined : error.message);
  }
  await new Promise((done) => setTimeout(done, APART_MS));
  reading = false;
  if (wanted) read();
  else if (isOn) timer = setTimeout(read, pause);
}

function listen() {
  stream = new EventSource(live);
  stream.addEventListener("open", () => {
    connection("live");
    read();
  });
  stream.addEventListener("changed", () => {
    document.dispatchEvent(new CustomEvent("changed"));
    read();
  });
  stream.addEventListener("error", () => {
    stream.close();
    connection("lost");
    retry = setTimeout(listen, AGAIN_MS);
  });
}

function turn(on) {
  if (on === isOn) return;
  isOn = on;
  clearTimeout(timer);
  clearTimeout(retry);
  stream?.close();
  stream = null;
  if (!on) return;
  connection("connecting");
  if (isPolled) read();
  else listen();
}

setClock(Number(document.documentElement.dataset.now));
runClock();
if (live) {
  const pause = document.getElementById("pause"), isPaused = () => pause.getAttribute("aria-pressed") === "true";
  turn(!document.hidden);
  document.addEventListener("visibilitychange", () => turn(!document.hidden && !isPaused()));
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!isPaused()));
    turn(!isPaused());
    if (isPaused()) connection("paused");
  });
  addEventListener("offline", () => isOn && connection("lost"));
  addEventListener("online", () => isOn && read());
}
