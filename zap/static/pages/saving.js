// Save what a page shows as a file.

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export function saveText(text, type, name) {
  save(new Blob([text], { type }), name);
}

export function saveRows(rows, name) {
  const cell = (value) => {
    // Spreadsheets take a text that begins with one of these signs for a formula, unless it is a number.
    const isFormula = typeof value === "string" && /^[=+\-@\t\r]/.test(value) && !/^[+-][\d.,\s]+%?$/.test(value);
    const text = (isFormula ? "'" : "") + (value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  saveText(rows.map((row) => row.map(cell).join(",") + "\n").join(""), "text/csv", `${name}.csv`);
}

// A table of the page: its words as they are shown, and its numbers as programs write them.
export function saveCsv(table, name) {
  saveRows([...table.rows].map((row) => [...row.cells].map((cell) => cell.querySelector("data")?.value ?? cell.textContent.trim())), name);
}

export function savePicture(canvas, name) {
  canvas.toBlob((blob) => save(blob, `${name}.png`));
}

// An SVG as a file that can be read alone: with the light colours of the page, a white ground, and its sentence.
export function drawing(svg, sentence) {
  const root = document.documentElement, { scheme } = root.dataset, { width, height } = svg.getBoundingClientRect();
  const copy = svg.cloneNode(true), [from, to] = [svg, copy].map((one) => one.querySelectorAll("*"));
  root.dataset.scheme = "light";
  from.forEach((element, place) => {
    // A definition takes the colours of each place where it is used.
    if (element.closest("defs")) return;
    const style = getComputedStyle(element);
    for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "fill-opacity", "font-size", "font-family"]) {
      to[place].setAttribute(name, style.getPropertyValue(name));
    }
  });
  root.dataset.scheme = scheme ?? "auto";
  // The file has no layout that gives the drawing its size, and nothing beyond its edge can be seen.
  const edge = 12, whole = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const add = (name, attributes) => {
    const one = whole.appendChild(document.createElementNS(whole.namespaceURI, name));
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    return one;
  };
  whole.setAttribute("width", width + 2 * edge);
  whole.setAttribute("height", height + 2 * edge);
  add("title", {}).textContent = sentence;
  add("rect", { width: "100%", height: "100%", fill: "white" });
  for (const [key, value] of Object.entries({ x: edge, y: edge, width, height, overflow: "visible" })) copy.setAttribute(key, value);
  whole.append(copy);
  return new XMLSerializer().serializeToString(whole);
}

// The drawing as a PNG, with twice as many pixels in each direction.
export function saveDrawing(text, name) {
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    savePicture(canvas, name);
  });
  image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
}
