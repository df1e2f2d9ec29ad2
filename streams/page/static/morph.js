// Makes `old` say what `fresh` says by touching only what differs: focus, scrolling and charts stay where they are.
// Children with the same id or data-key are the same element; others are matched by their place.

export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-own")) return; // a script's own: a chart
  const isSameClock = old.dataset.clock && old.getAttribute("datetime") === fresh.getAttribute("datetime");
  if (isSameClock) return; // counted on by clock.js
  attributes(old, fresh);
  if (old.nodeName === "TEMPLATE") old.innerHTML = fresh.innerHTML; // what a chart is drawn of: it has no children
  else children(old, fresh);
}

function attributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (name === "open" && old.nodeName === "DETAILS") continue; // the reader's choice
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (name === "open" && old.nodeName === "DETAILS") continue;
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "");

// The same for what is in `old`, whose own it may be.
export function inside(old, fresh) {
  children(old, fresh);
}

function children(old, fresh) {
  const known = new Map();
  for (const child of old.children) if (keyOf(child)) known.set(keyOf(child), child);
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = keyOf(wanted);
    let found = key ? known.get(key) : place;
    if (!key) while (found && keyOf(found) && known.has(keyOf(found))) found = found.nextSibling;
    if (found && found.nodeName === wanted.nodeName && found.nodeType === wanted.nodeType) {
      known.delete(key);
      if (found !== place) old.insertBefore(found, place);
      else place = place.nextSibling;
      morph(found, wanted);
    } else {
      if (wanted.dataset?.key) wanted.classList.add("new");
      old.insertBefore(wanted, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}
