"""A window of a person in a real browser, in which everything that goes wrong is noted."""

from contextlib import contextmanager

# Without motion, because a mark that fades in and out is faint for a moment.
HABITS = {
    "timezone_id": "Europe/Kyiv",
    "locale": "en-GB",
    "viewport": {"width": 1280, "height": 800},
    "reduced_motion": "reduce",
}
# The persons who open each page.
PEOPLE = {
    "light": {},
    "dark, 390 px, Ukrainian": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "dark",
        "locale": "uk-UA",
    },
}
# The first visitor of the history waits for it, and the page loads itself again.
_IS_DRAWN = """() => !document.querySelector("script[src$='/again.js']")
  && [...document.querySelectorAll("figure.plot")].every((one) => one.querySelector("canvas"))"""
# The most that the content of a page may move while it loads (cumulative layout shift). 0.1 counts as good on the web.
MOST_SHIFT = 0.02
_SHIFTS = """
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const { hadRecentInput, value, sources } of list.getEntries()) {
      const moved = sources.map(({ node }) => (node?.outerHTML ?? node?.textContent ?? "").trim().slice(0, 80));
      if (!hadRecentInput) window.shifts.push({ value, moved });
    }
  }).observe({ type: "layout-shift", buffered: true });
"""


@contextmanager
def window(browser, **habits):
    """Yield an empty page of a person with these habits. Its `problems` and `asked` tell what went wrong."""
    context = browser.new_context(**HABITS | habits)
    page = context.new_page()
    page.problems, page.asked = [], []
    page.on("console", lambda said: said.type in {"error", "warning"} and page.problems.append(said.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda asked: page.asked.append(asked.url))
    if habits.get("java_script_enabled", True):
        page.add_init_script(_SHIFTS)
    try:
        yield page
    finally:
        context.close()


def disturbances(page, *urls):
    """Return what the browser has noted since the last call: errors, requests elsewhere, and content that moved.

    Args:
        page: of `window`.
        urls: the servers that a page may ask.
    """
    # What the first frames change has moved too.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found = [*page.problems]
    found += [f"asks for {one}" for one in page.asked if not one.startswith((*urls, "data:", "blob:"))]
    shifts = page.evaluate("window.shifts")
    if (shift := sum(one["value"] for one in shifts)) >= MOST_SHIFT:
        found.append(f"moves while it loads: {shift:.3f} {[one['moved'] for one in shifts]}")
    page.problems.clear()
    page.asked.clear()
    return found


def wait_until_drawn(page, seconds=30):
    """Wait until the open page has all its figures."""
    page.wait_for_function(_IS_DRAWN, timeout=1000 * seconds)
