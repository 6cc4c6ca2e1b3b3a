// Draw each figure with `data-plot`, the JSON of zap/pages/plots.py, with uPlot.
import uPlot from "./uPlot.esm.js";
import { savePicture, saveRows } from "./saving.js";

// As the server writes days and numbers.
const language = { en: "en-GB" }[document.documentElement.lang] ?? document.documentElement.lang;
const number = (decimals) => new Intl.NumberFormat(language, { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

// The value of a colour that a class of the style sheet gives.
function colour(name) {
  const probe = document.createElement("span");
  probe.className = name;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const faint = (rgb, alpha) => rgb.replace(/^rgba?\(([^,]+),([^,]+),([^,)]+).*\)$/, `rgba($1,$2,$3,${alpha})`);

// uPlot's data: x, then the lines, then the ends of the bands.
function arranged(plot) {
  const data = [plot.x], series = [{ label: plot.x_label, value: (_, x) => at(plot, x) }], bands = [];
  plot.lines.forEach((line, place) => {
    const stroke = colour(`colour-${place % 6}`);
    series.push({
      label: line.name, stroke, width: 2, points: { show: plot.x.length < 40, size: 5, filter: (_, place) => plot.x.length < 40 ? null : alone(data[place]) },
      dash: line.kind === "dashed" ? [5, 4] : undefined,
      paths: line.kind === "steps" ? uPlot.paths.stepped({ align: 1 }) : undefined,
      value: (_, y) => y == null ? "–" : number(plot.decimals).format(y),
    });
    data.push(line.values);
  });
  plot.lines.forEach((line, place) => {
    if (!line.low.length) return;
    const fill = faint(colour(`colour-${place % 6}`), .18), first = data.length;
    for (const ends of [line.high, line.low]) {
      data.push(ends);
      series.push({ label: line.name, stroke: "transparent", points: { show: false }, class: "band" });
    }
    bands.push({ series: [first, first + 1], fill });
  });
  return { data, series, bands };
}

// The places of values without neighbours, which no line would show.
function alone(values) {
  return [...values.keys()].filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null);
}

function at(plot, x) {
  if (x == null) return "–";
  return plot.is_time ? day.format(x * 1000) : number(plot.decimals).format(x);
}

function marks(plot, ink) {
  return (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = ink;
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const mark of plot.marks) {
      const x = u.valToPos(mark.x, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillText(mark.text, x + 4 * devicePixelRatio, bbox.top + 10 * devicePixelRatio);
    }
    ctx.restore();
  };
}

function draw(figure) {
  const plot = JSON.parse(figure.dataset.plot), room = figure.querySelector(".canvas");
  room.replaceChildren();
  const ink = getComputedStyle(figure.querySelector("figcaption")).color;
  const line = getComputedStyle(figure.closest(".card") ?? figure).borderTopColor;
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: ink, font, labelFont: font, grid: { stroke: faint(line, .7), width: 1 }, ticks: { show: false }, labelSize: 18 };
  const { data, series, bands } = arranged(plot);
  const height = room.clientHeight;
  const drawn = new uPlot({
    width: room.clientWidth, height, series, bands,
    // Days of zap are days everywhere; they are not moved into the reader's zone.
    tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "UTC"),
    scales: {
      // A single value stands in the middle; uPlot would show years around one day.
      x: { time: plot.is_time, ...(plot.x.length === 1 && { range: [plot.x[0] - (plot.is_time ? 7 * 86400 : 1), plot.x[0] + (plot.is_time ? 7 * 86400 : 1)] }) },
      y: plot.y_is_log ? { distr: 3 } : plot.y_from == null ? {} : { range: (_, low, high) => [Math.min(plot.y_from, low), high + (high - plot.y_from) * .1 || 1] },
    },
    axes: [
      // Room for the longest month of all languages.
      { ...axis, size: 30, space: 68, label: plot.is_time ? undefined : plot.x_label,
        values: plot.is_time ? dates : undefined },
      { ...axis, label: plot.y_label, size: 56, grid: { ...axis.grid, ...(plot.y_is_log && { filter: decades }) }, values: (_, all) => all.map((y) => y == null ? "" : new Intl.NumberFormat(language).format(y)) },
    ],
    legend: { live: true },
    cursor: { drag: { x: true, y: false } },
    hooks: { drawAxes: [marks(plot, ink)] },
  }, data, room);
  // The legend is part of the room, so the plot gets what it leaves.
  for (const band of drawn.root.querySelectorAll(".u-legend .band")) band.remove();
  const legend = drawn.root.querySelector(".u-legend");
  const fit = () => drawn.setSize({ width: room.clientWidth, height: height - legend.offsetHeight });
  fit();
  return { drawn, fit, plot };
}

function dates(u, all) {
  const wide = (u.scales.x.max - u.scales.x.min) > 200 * 86400;
  const shown = new Intl.DateTimeFormat(language, { timeZone: "UTC", ...(wide ? { month: "short", year: "numeric" } : { day: "numeric", month: "short" }) });
  return all.map((x) => x % 86400 && !wide ? new Intl.DateTimeFormat(language, { timeZone: "UTC", hour: "2-digit", minute: "2-digit" }).format(x * 1000) : shown.format(x * 1000));
}

// The places on a logarithmic axis that have a line: powers of ten.
const decades = (_, all) => all.map((y) => Number.isInteger(Math.round(Math.log10(y) * 1e6) / 1e6) ? y : null);

// The plotted numbers, with the unit of the y axis in the name of each column, and the table's words for the ends of a band.
function rows(figure, { plot }) {
  const heads = [...figure.querySelectorAll("thead th")].map((cell) => cell.textContent);
  let place = 1;
  const names = plot.lines.flatMap((line) => [line.name, ...line.low.length ? heads.slice(place + 1, place + 3).map((end) => `${line.name}, ${end}`) : []]
    .map((name) => (place += 1, `${name}: ${plot.y_label}`)));
  const areDays = plot.x.every((one) => one % 86400 === 0);
  const x = (one) => plot.is_time ? new Date(one * 1000).toISOString().slice(0, areDays ? 10 : 16) + (areDays ? "" : "Z") : one;
  return [[plot.x_label, ...names], ...plot.x.map((one, place) => [x(one),
    ...plot.lines.flatMap((line) => line.low.length ? [line.values[place], line.low[place], line.high[place]] : [line.values[place]])])];
}

// The plot as a picture that can be read alone: on the ground of its card, with the names of its lines below.
function picture(figure, { drawn, plot }) {
  const { canvas } = drawn.ctx, row = 18 * devicePixelRatio, whole = document.createElement("canvas"), ctx = whole.getContext("2d");
  [whole.width, whole.height] = [canvas.width, canvas.height + row * (plot.lines.length + .5)];
  ctx.fillStyle = getComputedStyle(figure.closest(".card") ?? document.body).backgroundColor;
  ctx.fillRect(0, 0, whole.width, whole.height);
  ctx.drawImage(canvas, 0, 0);
  ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  plot.lines.forEach((line, place) => {
    ctx.fillStyle = colour(`colour-${place % 6}`);
    ctx.fillText(`${line.kind === "dashed" ? "- -" : "—"} ${line.name}`, row, canvas.height + row * (place + .7));
  });
  return whole;
}

for (const figure of document.querySelectorAll("figure[data-plot]")) {
  let one = draw(figure);
  new ResizeObserver(() => one.fit()).observe(figure.querySelector(".canvas"));
  // The colours are on a canvas, so a change of the system's colours draws again.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { one.drawn.destroy(); one = draw(figure); });
  const downloads = figure.querySelector(".downloads");
  downloads.hidden = false;
  downloads.addEventListener("click", (event) => {
    const kind = event.target.dataset.save;
    if (kind === "csv") saveRows(rows(figure, one), figure.dataset.name);
    if (kind === "png") savePicture(picture(figure, one), figure.dataset.name);
  });
}
