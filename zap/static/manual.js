// The search of the manual: every word has to be in a heading or a paragraph, row or example below it. "/" begins a search, the arrows choose
// a result, Enter opens it, Escape ends the search.
const form = document.querySelector("#search");
const field = form.elements.words;
const list = document.querySelector("#found");
const address = new URL(form.dataset.index, location.href);
const MOST = 12;
const AROUND = 60;
const WORDS = /[\p{L}\p{N}]+/gu;
const JOINED = /^[\p{L}\p{N}]{2}$/u;
let index;
let chosen = -1;

// Narrow screens begin with the text, not with all pages.
if (matchMedia("(max-width: 52rem)").matches) document.querySelector("#pages").open = false;
form.hidden = false;

// A table that is wider than its place would be cut off at the edge, so its rows are shown as blocks.
for (const table of document.querySelectorAll(".table")) {
  const columns = [...table.querySelectorAll("th")].map((one) => one.textContent);
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, number) => { if (columns[number]) cell.dataset.column = columns[number]; });
  }
}
function stackWideTables() {
  for (const table of document.querySelectorAll(".table")) {
    table.classList.remove("stacked");
    table.classList.toggle("stacked", table.scrollWidth > table.clientWidth + 1);
  }
}
addEventListener("resize", stackWideTables);
stackWideTables();

async function load() {
  index ??= fetch(address).then((reply) => {
    if (!reply.ok) throw new Error(`the index of the search: ${reply.status}`);
    return reply.json();
  }).then((entries) => entries.map(block));
  return index;
}

function block([page, title, anchor, heading, text]) {
  const parts = [title, heading, text].map((one) => one.toLowerCase());
  const stems = parts.map((one) => new Set((one.match(WORDS) ?? []).map(stem)));
  return { page, title, anchor, heading, text, parts, stems };
}

// "tune", "tunes", "tuned" and "tuning" are forms of one word.
function stem(word) {
  return word.replace(/(?<=...)(ings?|ions?|ed|es|s|e)$/, "");
}

// Where a text has a word, and how well: 3 whole, 2 at the start of a longer word, 1 inside a longer word.
function places(text, word) {
  const found = [];
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    const end = at + word.length;
    const fit = at && JOINED.test(text.slice(at - 1, at + 1)) ? 1 : JOINED.test(text.slice(end - 1, end + 1)) ? 2 : 3;
    found.push({ at, end, fit });
  }
  return found;
}

// For a title, a heading and a text: how well each has a word. Another form of the word is the whole word too.
function fits(block, word) {
  return block.parts.map((part, number) =>
    block.stems[number].has(stem(word)) ? 3 : Math.max(0, ...places(part, word).map((place) => place.fit)));
}

// A heading that has the word comes before a text that has it, and both before a text with the word inside another one.
function worth(block, [title, heading, text]) {
  const name = [0, 1, 10, 12][heading] + (heading > 1 && block.heading === block.title ? 1 : 0);
  return Math.max(name, [0, 0.5, 4, 6][text]) + [0, 0, 0.5, 1][title] + text / 10;
}

function find(blocks, words) {
  const found = new Map();
  const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);
  for (const block of blocks) {
    const each = words.map((word) => fits(block, word));
    const inText = sum(each.map((fit) => fit[2]));
    // A page title in every block would find all of them: some word has to be in the text itself.
    if (!inText || !each.every((fit) => Math.max(...fit))) continue;
    // One result for each section, with the text that has the words best. The heading is shown anyway.
    const score = sum(each.map((fit) => worth(block, fit)));
    const fit = block.text === block.heading ? 0 : inText;
    const place = `${block.page}#${block.anchor}`;
    const before = found.get(place) ?? { block, score, fit };
    const better = fit > before.fit ? { block, fit } : before;
    found.set(place, { block: better.block, fit: better.fit, score: Math.max(score, before.score) });
  }
  return [...found.values()].sort((one, other) => other.score - one.score).slice(0, MOST).map((one) => one.block);
}

// The places of a text to mark: whole words and starts of words, or the insides of words if there is nothing better.
function marks(text, words) {
  return words.flatMap((word) => {
    const forms = [...text.matchAll(WORDS)].filter((one) => stem(one[0]) === stem(word))
      .map((one) => ({ at: one.index, end: one.index + one[0].length, fit: 3 }));
    const found = [...places(text, word), ...forms];
    const good = found.filter((place) => place.fit > 1);
    return good.length ? good : found;
  }).sort((one, other) => one.at - other.at || other.end - one.end);
}

function marked(text, words) {
  const found = marks(text.toLowerCase(), words);
  const from = Math.max(0, (found[0]?.at ?? 0) - AROUND);
  const to = from + 3 * AROUND;
  const pieces = [from > 0 ? "…" : ""];
  let done = from;
  for (const { at, end } of found) {
    if (at < done || end > to) continue;
    pieces.push(text.slice(done, at), Object.assign(document.createElement("mark"), { textContent: text.slice(at, end) }));
    done = end;
  }
  return [...pieces, text.slice(done, to), to < text.length ? "…" : ""];
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
