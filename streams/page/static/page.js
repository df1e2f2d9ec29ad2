// Every page: clocks run, and what the page shows is read again when the server says that something changed.
import { runClock, setClock } from "./clock.js";
import { morph } from "./morph.js";

const AGAIN_MS = 2000; // after a lost connection
const AT_LEAST_MS = 3000; // some things change without an event, or are sorted anew a little later
const APART_MS = 300; // between two readings
const WORDS = { connecting: "connecting", live: "live", lost: "Connection lost. What you see may be old; trying again." };

const live = document.body.dataset.live;
let stream = null, reading = false, wanted = false, timer = 0;

function connection(state) {
  const told = document.getElementById("connection");
  if (told.dataset.state === state) return;
  told.dataset.state = state;
  told.lastElementChild.textContent = WORDS[state];
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
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
    if (new URL(answer.url).pathname === "/sign-in") {
      location.assign(answer.url);
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    setClock(Number(fresh.documentElement.dataset.now));
    morph(document.getElementById("content"), fresh.getElementById("content"));
    document.dispatchEvent(new CustomEvent("read"));
    if (stream?.readyState === EventSource.OPEN) connection("live");
  } catch {
    pause = AGAIN_MS;
    connection("lost");
  }
  await new Promise((done) => setTimeout(done, APART_MS));
  reading = false;
  if (wanted) read();
  else timer = setTimeout(read, pause);
}

function listen() {
  stream = new EventSource(live);
  stream.addEventListener("open", () => {
    connection("live");
    read();
  });
  stream.addEventListener("changed", read);
  stream.addEventListener("error", () => {
    stream.close();
    connection("lost");
    setTimeout(listen, AGAIN_MS);
  });
}

setClock(Number(document.documentElement.dataset.now));
runClock();
if (live) {
  listen();
  addEventListener("offline", () => connection("lost"));
  addEventListener("online", read);
}
