"""Every page in Chromium on a large database: how long it takes, and what no page may do there."""

import json
import shutil
import sys
import time
from collections import Counter

from watched_page import PEOPLE, disturbances, wait_until_drawn, window

# The most points of a series that a page may send.
MOST_POINTS = 500
_SERIES = """() => ({
  plots: [...document.querySelectorAll("figure.plot")].map((one) => one.dataset.plot),
  paths: [...document.querySelectorAll("main svg path")].map((one) => one.getAttribute("d") ?? ""),
  marks: [...document.querySelectorAll("main svg :is(circle, rect, use)")].map((one) => `${one.getAttribute("class")}`),
})"""


def look(url, paths):
    """Open each page as each person, and print the time until it is loaded and drawn. Return what is wrong.

    Args:
        url: the address of the server.
        paths: of the pages.
    """
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only if a browser is wanted

    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for one in names if (path := shutil.which(one))), None)
    if chromium is None:
        sys.exit("--browser needs Chromium. On Debian and Ubuntu: apt-get install chromium")
    faults = []
    print(f"{'page in Chromium':<44} {'drawn, ms':>9} {'points':>9}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for person, habits in PEOPLE.items():
            with window(browser, **habits) as page:
                faults += [f"{path} ({person}): {one}" for path in paths for one in _faults(page, url, path)]
        browser.close()
    print(f"{len(faults)} faults" if faults else "no errors, no requests elsewhere, and nothing moves")
    return faults


def _faults(page, url, path):
    """Open a page, print a line about it, and return what is wrong."""
    begin = time.perf_counter()
    reply = page.goto(url + path)
    wait_until_drawn(page, 120)
    took, points = 1000 * (time.perf_counter() - begin), _most_points(page)
    print(f"{path:<44} {took:>9.0f} {points:>9}", flush=True)
    found = disturbances(page, url)
    if reply.status != 200:
        found.append(f"is answered with {reply.status}")
    if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        found.append("scrolls sideways")
    if points > MOST_POINTS:
        found.append(f"has a series of {points} points")
    return found


def _most_points(page):
    """Return how many points the longest series of a page has: in a plot, in a line, or as marks of one kind."""
    series = page.evaluate(_SERIES)
    plots = [len(json.loads(one)["x"]) for one in series["plots"]]
    paths = [len([letter for letter in one if letter.isalpha()]) for one in series["paths"]]
    return max([0, *plots, *paths, *Counter(series["marks"]).values()])
