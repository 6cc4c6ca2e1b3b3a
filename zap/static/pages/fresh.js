// Keep a part of the page fresh: the element with `data-fresh`, which has an id and says how many seconds a copy lasts.
//
// The page is fetched again while it is visible, and what differs is changed in place. What the reader did stays: the
// focus, open details, selected and typed text. Screen readers hear only that the server cannot be reached.
import { showTimes } from "./pages.js";

const shown = document.querySelector("[data-fresh]");
const clock = new Intl.DateTimeFormat(document.documentElement.lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
// What belongs to the reader or to another script.
const KEPT = new Set(["open", "hidden", "value"]);
const LONGEST = 10_000;
let fetched = Date.now(), timer, busy = false;

// The same style sheets and scripts, otherwise the server has another zap now.
const addresses = (page) => [...page.querySelectorAll("head [href], head [src]")].map((one) => one.getAttribute("href") ?? one.getAttribute("src")).join();

async function renew() {
  if (busy || document.hidden) return;
  busy = true;
  clearTimeout(timer);
  try {
    const reply = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(LONGEST) });
    if (reply.status === 401) return location.reload();
    if (!reply.ok) throw new Error(reply.status);
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const next = page.getElementById(shown.id);
    // zap was upgraded.
    if (!next || addresses(page) !== addresses(document)) return location.reload();
    document.title = page.title;
    showTimes(next);
    const focused = document.activeElement;
    change(shown, next);
    // An element that was moved has lost the focus.
    if (focused !== document.activeElement && shown.contains(focused)) focused.focus({ preventScroll: true });
    lost(false);
    document.dispatchEvent(new Event("renewed"));
  } catch {
    lost(true);
  } finally {
    fetched = Date.now();
    busy = false;
    wait();
  }
}

// Change an element until it is like another one. Children with an id are found by it, all others by their place.
function change(now, next) {
  if (now.isEqualNode(next) || (now.dataset.run && now.dataset.run === next.dataset.run)) return;
  for (const { name } of [...now.attributes]) if (!KEPT.has(name) && !next.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of next.attributes) if (!KEPT.has(name) && now.getAttribute(name) !== value) now.setAttribute(name, value);
  const all = [...next.childNodes];
  all.forEach((wanted, place) => {
    const known = wanted.id && [...now.children].find((one) => one.id === wanted.id);
    if (known && known !== now.childNodes[place]) now.insertBefore(known, now.childNodes[place]);
    const here = now.childNodes[place];
    // An element with an id may have its place further on; what is left over is removed at the end.
    if (!here || (here.id && here.id !== wanted.id)) now.insertBefore(wanted, here ?? null);
    else if (here.nodeName !== wanted.nodeName || (wanted.id && !known)) here.replaceWith(wanted);
    else if (here.nodeType !== Node.ELEMENT_NODE) { if (here.data !== wanted.data) here.data = wanted.data; }
    else change(here, wanted);
  });
  while (now.childNodes.length > all.length) now.lastChild.remove();
}

function lost(isLost) {
  const said = document.querySelector("[data-lost]");
  if (isLost === !said.hidden) return;
  said.hidden = !isLost;
  said.textContent = isLost ? said.dataset.lost.replace("{time}", clock.format(new Date())) : "";
}

function wait() {
  clearTimeout(timer);
  timer = setTimeout(renew, Math.max(0, fetched + 1000 * shown.dataset.fresh - Date.now()));
}

document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : wait());
document.addEventListener("stale", renew);
wait();
