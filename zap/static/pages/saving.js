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

// A table of the page, as it is shown.
export function saveCsv(table, name) {
  saveRows([...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim())), name);
}

export function savePicture(canvas, name) {
  canvas.toBlob((blob) => save(blob, `${name}.png`));
}
