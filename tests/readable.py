"""Measure in a browser how readable a page is. Each function returns the faults of the elements in `root`."""

_COMMON = """
const styles = new Map();
function style(element) {
  if (!styles.has(element)) styles.set(element, getComputedStyle(element));
  return styles.get(element);
}
const lineage = (element) => element ? [element, ...lineage(element.parentElement)] : [];
function common(one, other) {
  const [left, top] = [Math.max(one.left, other.left), Math.max(one.top, other.top)];
  const [right, bottom] = [Math.min(one.right, other.right), Math.min(one.bottom, other.bottom)];
  return { left, top, right, bottom, width: right - left, height: bottom - top };
}
// The boxes of an element or a text without what a box that scrolls hides.
function shownBoxes(rectangles, element) {
  const clips = lineage(element).filter((one) => style(one).overflow !== "visible" && one !== document.body)
    .map((one) => one.getBoundingClientRect());
  return [...rectangles].map((box) => clips.reduce(common, box)).filter((box) => box.width > 1 && box.height > 1);
}
// Visible pieces of text: the element of each, its boxes, and its first words.
function texts(root) {
  const found = [], walker = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, range = document.createRange();
    if (!node.data.trim() || element.closest("script, style, svg") || !element.checkVisibility()) continue;
    range.selectNodeContents(node);
    const boxes = shownBoxes(range.getClientRects(), element);
    if (boxes.length) found.push({ element, boxes, said: node.data.trim().slice(0, 40) });
  }
  return found;
}
"""

_FAINT = """([root, least]) => {
  const colour = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, under) => [0, 1, 2].map((one) => top[one] * top[3] + under[one] * (1 - top[3])).concat(1);
  const light = (one) => [.2126, .7152, .0722].reduce((sum, part, place) => {
    const value = one[place] / 255;
    return sum + part * (value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
  }, 0);
  const page = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const grounds = new Map([[null, page]]), opacities = new Map([[null, 1]]);
  function ground(element) {
    if (!grounds.has(element)) {
      grounds.set(element, over(colour(style(element).backgroundColor), ground(element.parentElement)));
    }
    return grounds.get(element);
  }
  function opacity(element) {
    if (!opacities.has(element)) opacities.set(element, style(element).opacity * opacity(element.parentElement));
    return opacities.get(element);
  }
  const faults = new Set();
  for (const { element, said } of texts(root)) {
    // Opacity 0: a mark that only the pointer shows.
    if (!opacity(element)) continue;
    const [r, g, b, a] = colour(style(element).color);
    const ink = over([r, g, b, a * opacity(element)], ground(element));
    const [low, high] = [light(ink), light(ground(element))].sort((one, other) => one - other);
    const contrast = (high + .05) / (low + .05);
    if (contrast < least) faults.add(`${contrast.toFixed(1)} ${element.tagName}.${element.className}: ${said}`);
  }
  return [...faults];
}"""

_COVERED = """(root) => {
  const all = texts(root), faults = new Set();
  for (const cover of document.querySelectorAll(`${root} :is(code, button)`)) {
    if (!cover.checkVisibility() || cover.closest("pre")) continue;
    for (const box of shownBoxes(cover.getClientRects(), cover)) {
      for (const { element, boxes, said } of all) {
        // Some pixels of the space between two lines hide no letter.
        const over = boxes.map((line) => common(box, line)).some((both) => both.width > 1 && both.height > 3);
        if (over && !cover.contains(element)) faults.add(`${cover.outerHTML.slice(0, 80)} covers: ${said}`);
      }
    }
  }
  return [...faults];
}"""

_UNNAMED = """(root) => [...document.querySelectorAll(`${root} :is(button, select, input, textarea, a[href])`)]
  .filter((one) => one.checkVisibility())
  .filter((one) => !one.ariaLabel && !one.title && !one.labels?.length && !one.hasAttribute("aria-labelledby"))
  .filter((one) => !(one.matches("button, a") && (one.innerText.trim() || one.querySelector("img[alt]"))))
  .map((one) => one.outerHTML.slice(0, 200))
"""


def faint_texts(page, root="body", least=4.5):
    """Return the texts whose contrast with the ground is below `least` (WCAG 2.2, 1.4.3)."""
    return page.evaluate(_FAINT.replace("=> {", "=> {" + _COMMON, 1), [root, least])


def covered_texts(page, root="body"):
    """Return the texts that the box of inline code of another line, or a button, covers."""
    return page.evaluate(_COVERED.replace("=> {", "=> {" + _COMMON, 1), root)


def unnamed_controls(page, root="body"):
    """Return the visible controls without a name for readers who hear the page."""
    return page.evaluate(_UNNAMED, root)
