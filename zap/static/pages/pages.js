// What every page does with JavaScript: times in the reader's zone, choices at once, copying, downloads of figures.
import { saveCsv, saveText } from "./saving.js";

// As the server writes days: the day before the month.
const language = { en: "en-GB" }[document.documentElement.lang] ?? document.documentElement.lang;
const shown = new Intl.DateTimeFormat(language,
  { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-keep])")) {
    time.textContent = (time.dataset.clock == null ? shown : clock).format(new Date(time.dateTime));
  }
}
showTimes(document);

for (const form of document.querySelectorAll("[data-choices]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

for (const button of document.querySelectorAll("[data-copy]")) {
  // The clipboard is there only over https and on localhost.
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    const before = button.textContent;
    button.textContent = "✓";
    setTimeout(() => { button.textContent = before; }, 1500);
  });
}

for (const figure of document.querySelectorAll("figure.drawn")) {
  const downloads = figure.querySelector(".downloads");
  downloads.hidden = false;
  downloads.addEventListener("click", (event) => {
    const kind = event.target.dataset.save;
    if (kind === "csv") saveCsv(figure.querySelector("table"), figure.dataset.name);
    if (kind === "svg") saveText(drawing(figure.querySelector("svg")), "image/svg+xml", `${figure.dataset.name}.svg`);
  });
}

// An SVG with the colours of the page in it, because the file has no style sheet.
function drawing(svg) {
  const copy = svg.cloneNode(true);
  const [from, to] = [svg, copy].map((one) => one.querySelectorAll("*"));
  from.forEach((element, place) => {
    const style = getComputedStyle(element);
    for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "fill-opacity", "font-size"]) {
      to[place].setAttribute(name, style.getPropertyValue(name));
    }
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return copy.outerHTML;
}
