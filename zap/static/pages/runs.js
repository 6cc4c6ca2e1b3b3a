// Follow running trainings: elements with `data-run`, the address of a run's events.
const followed = new Set();

function follow(shown) {
  if (followed.has(shown.dataset.run)) return;
  followed.add(shown.dataset.run);
  const number = new Intl.NumberFormat(document.documentElement.lang, { minimumFractionDigits: 4, maximumFractionDigits: 4 });
  const source = new EventSource(shown.dataset.run);
  source.addEventListener("progress", (event) => {
    const now = JSON.parse(event.data);
    const phases = shown.querySelector("template").content;
    const [bar, phase, loss] = ["progress", "[data-phase]", "[data-loss]"].map((one) => shown.querySelector(one));
    const words = phases.querySelector(`[data-code="${CSS.escape(now.phase)}"]`)?.textContent ?? now.phase;
    bar.value = now.total ? now.done / now.total : 0;
    // A screen reader hears the phase, and not each step of it.
    if (phase.textContent !== words) phase.textContent = words;
    loss.textContent = now.log_loss == null ? "" : `· log loss ${number.format(now.log_loss)}`;
  });
  source.addEventListener("end", () => {
    source.close();
    if (document.querySelector("[data-fresh]")) document.dispatchEvent(new Event("stale"));
    else location.reload();
  });
}

function followAll() {
  for (const shown of document.querySelectorAll("[data-run]")) follow(shown);
}
followAll();
// `fresh.js` may have shown a training that has just begun.
document.addEventListener("renewed", followAll);
