// What every page does with JavaScript: times in the reader's zone, choices at once, copying, downloads of figures.
import { drawing, saveCsv, saveDrawing, saveText } from "./saving.js";

// As the server writes days: the day before the month.
const language = { en: "en-GB" }[document.documentElement.lang] ?? document.documentElement.lang;
const moment = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const shown = new Intl.DateTimeFormat(language, moment);
const withWeekday = new Intl.DateTimeFormat(language, { weekday: "short", ...moment });
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-keep])")) {
    const format = time.dataset.clock != null ? clock : time.dataset.weekday != null ? withWeekday : shown;
    time.textContent = format.format(new Date(time.dateTime));
  }
}
showTimes(document);

// On a narrow screen the navigation is one line that scrolls.
document.querySelector("header nav [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "nearest" });

// A form that is refused because the login has ended is filled in again after the login. Hidden fields are always new.
const SENT = "sent";
if (!document.querySelector("[data-login]")) {
  const sent = JSON.parse(sessionStorage.getItem(SENT));
  sessionStorage.removeItem(SENT);
  if (sent?.path === location.pathname && /\/pages\/login$/.test(document.referrer.split("?")[0])) {
    for (const field of document.querySelectorAll(`main form[action="${CSS.escape(sent.action)}"] :is(input, select, textarea):not([type=hidden])`)) {
      const typed = sent.fields.filter(([name]) => name === field.name).map(([, value]) => value);
      if (field.type === "checkbox" || field.type === "radio") field.checked = typed.includes(field.value);
      else if (typed.length) field.value = typed[0];
    }
  }
  for (const form of document.querySelectorAll("main form[method=post]")) {
    form.addEventListener("submit", () => {
      const fields = [...new FormData(form)].filter(([name]) => name !== "token");
      sessionStorage.setItem(SENT, JSON.stringify({ path: location.pathname, action: form.getAttribute("action"), fields }));
    });
  }
}

for (const form of document.querySelectorAll("[data-choices]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

for (const button of document.querySelectorAll("[data-copy]")) {
  // The clipboard is there only over https and on localhost.
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy || location.href);
    const before = button.textContent;
    button.textContent = "✓";
    setTimeout(() => { button.textContent = before; }, 1500);
  });
}

for (const figure of document.querySelectorAll("figure.drawn")) {
  const downloads = figure.querySelector(".downloads"), { name } = figure.dataset;
  downloads.hidden = false;
  downloads.addEventListener("click", (event) => {
    const kind = event.target.dataset.save;
    if (kind === "csv") saveCsv(figure.querySelector("table"), name);
    if (kind !== "svg" && kind !== "png") return;
    const text = drawing(figure.querySelector("svg"), figure.querySelector("figcaption").textContent.trim());
    if (kind === "svg") saveText(text, "image/svg+xml", `${name}.svg`);
    else saveDrawing(text, name);
  });
}
