// The search of the manual: every word has to be in a heading or a paragraph, row or example below it. "/" begins a search, the arrows choose
// a result, Enter opens it, Escape ends the search.
const form = document.querySelector("#search");
const field = form.elements.words;
const list = document.querySelector("#found");
const address = new URL(form.dataset.index, location.href);
const MOST = 12;
const AROUND = 60;
let index;
let chosen = -1;

// Narrow screens begin with the text, not with all pages.
if (matchMedia("(max-width: 52rem)").matches) document.querySelector("#pages").open = false;
form.hidden = false;

async function load() {
  index ??= fetch(address).then((reply) => {
    if (!reply.ok) throw new Error(`the index of the search: ${reply.status}`);
    return reply.json();
  });
  return index;
}

function find(blocks, words) {
  const found = new Map();
  for (const [page, title, anchor, heading, text] of blocks) {
    const names = `${title} ${heading}`.toLowerCase();
    const whole = `${names} ${text}`.toLowerCase();
    // A page title in every block would find all of them: some word has to be in the text itself.
    if (!words.every((word) => whole.includes(word)) || !words.some((word) => text.toLowerCase().includes(word))) continue;
    const score = words.filter((word) => names.includes(word)).length + (text === heading ? 1 : 0);
    // One result for each section, with its first text.
    const place = `${page}#${anchor}`;
    const before = found.get(place);
    if (!before) found.set(place, { page, title, anchor, heading, text, score });
    else if (before.text === heading) before.text = text;
  }
  return [...found.values()].sort((one, other) => other.score - one.score).slice(0, MOST);
}

function marked(text, words) {
  const small = text.toLowerCase();
  const places = words.map((word) => small.indexOf(word)).filter((place) => place >= 0);
  const from = Math.max(0, Math.min(...places, text.length) - AROUND);
  const shown = text.slice(from, from + 3 * AROUND);
  const pieces = [from > 0 ? "…" : ""];
  let rest = shown;
  while (rest) {
    const lower = rest.toLowerCase();
    const next = words.map((word) => [lower.indexOf(word), word.length]).filter(([place]) => place >= 0)
      .sort((one, other) => one[0] - other[0])[0];
    if (!next) break;
    const mark = document.createElement("mark");
    mark.textContent = rest.slice(next[0], next[0] + next[1]);
    pieces.push(rest.slice(0, next[0]), mark);
    rest = rest.slice(next[0] + next[1]);
  }
  return [...pieces, rest, from + 3 * AROUND < text.length ? "…" : ""];
}

function shown(result, number, words) {
  const item = document.createElement("li");
  item.role = "option";
  item.id = `found-${number}`;
  const link = document.createElement("a");
  link.href = new URL(`${result.page}#${result.anchor}`, address);
  link.tabIndex = -1;
  const name = document.createElement("b");
  name.textContent = result.heading === result.title ? result.title : `${result.title}: ${result.heading}`;
  const text = document.createElement("small");
  if (result.text !== result.heading) text.append(...marked(result.text, words));
  link.append(name, text);
  item.append(link);
  return item;
}

function open(isOpen) {
  list.hidden = !isOpen;
  field.setAttribute("aria-expanded", String(isOpen));
}

function choose(number) {
  const items = [...list.querySelectorAll("[role=option]")];
  if (!items.length) return;
  chosen = (number + items.length) % items.length;
  items.forEach((item, place) => item.setAttribute("aria-selected", String(place === chosen)));
  items[chosen].scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", items[chosen].id);
}

async function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  chosen = -1;
  field.removeAttribute("aria-activedescendant");
  if (!words.length) return open(false);
  let results;
  try {
    results = find(await load(), words);
  } catch (error) {
    index = undefined;
    list.replaceChildren(Object.assign(document.createElement("p"), { textContent: String(error.message) }));
    return open(true);
  }
  if (field.value.toLowerCase().split(/\s+/).filter(Boolean).join(" ") !== words.join(" ")) return;
  const nothing = document.createElement("p");
  nothing.textContent = "Nothing found.";
  list.replaceChildren(...(results.length ? results.map((result, number) => shown(result, number, words)) : [nothing]));
  open(true);
  choose(0);
}

field.addEventListener("focus", () => load().catch(() => { index = undefined; }));
field.addEventListener("input", search);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  list.querySelector("[aria-selected=true] a")?.click();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") choose(chosen + 1);
  else if (event.key === "ArrowUp") choose(chosen - 1);
  else if (event.key === "Escape") { field.value = ""; open(false); field.blur(); }
  else return;
  event.preventDefault();
});
list.addEventListener("click", (event) => { if (event.target.closest("a")) open(false); });
document.addEventListener("click", (event) => { if (!form.contains(event.target)) open(false); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea")) return;
  event.preventDefault();
  field.focus();
});
