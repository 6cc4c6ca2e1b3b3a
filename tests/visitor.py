"""A person in a browser who presses controls, and a program with the API key that looks what the controls did."""

import re

import httpx
from controls import links_on, name_of
from playwright.sync_api import expect
from watched_page import disturbances

# Where each link leads that looks like a button: the heading of the page, or the type of the document.
HEADINGS = {
    "/": "Overview",
    "/docs": "text/html",
    "/manual/alarms": "Alarms #",
    "/manual/start": "Start with zap #",
    "/pages/alarms": "Alarms",
    "/pages/drivers/sample-#-#": "Driver sample-#-#",
    "/pages/erase-driver": "Erase driver sample-#-#?",
    "/pages/export-driver": "application/zip",
    "/pages/audit": "Audit",
    "/pages/data/fields": "Drift and data",
    "/pages/data/history": "Drift and data",
    "/pages/keys": "Keys",
    "/pages/keys/#/revoke": "Revoke the key of app?",
    "/pages/keys/#/rotate": "Rotate the key of app?",
    "/pages/models": "Models",
    "/pages/models/#": "Version #",
    "/pages/models/#/promote": "Promote version #?",
    "/pages/models/#/trial": "Try version #?",
    "/pages/models/#/trial/end": "End the trial of version #?",
    "/pages/models/rollback": "Roll back to version #?",
    "/pages/predictions": "Predictions",
    "/pages/predictions/new": "Ask for a prediction",
    "/pages/quality": "Quality",
    "/pages/trainings": "Trainings",
    "/pages/trainings/#": "Training #",
    "/pages/trainings/#/cancel": "Cancel training #?",
    "/predictions/#": "application/json",
    "/predictions/#/explanation": "application/json",
    "/quality": "application/json",
}


class Visitor:
    """A person and a program at one server.

    Args:
        page: of `window`.
        url: the address of the server.
        key: the API key; None if every route is open.
    """

    def __init__(self, page, url, key=None):
        self.page, self.url, self.key = page, url, key
        self.headers = {} if key is None else {"X-API-Key": key}
        self.pressed, self.faults = set(), []

    def json(self, path, **query):
        """Return what a JSON route says to the program. With several workers, any of them answers."""
        return httpx.get(self.url + path, params=query, headers=self.headers, timeout=30).raise_for_status().json()

    def ask(self, **request):
        """Return the answer to the program's request for a prediction."""
        reply = httpx.post(f"{self.url}/predict", json=request, headers=self.headers, timeout=30)
        return reply.raise_for_status().json()

    def open(self, path):
        """Open a page, as a link to it does."""
        self.page.goto(self.url + path)
        self.look()

    def look(self):
        """Look at the page that is open: what goes wrong, and where its links lead that look like buttons."""
        self.faults += [f"{self.page.url}: {one}" for one in disturbances(self.page, self.url)]
        for name, address in links_on(self.page).items():
            if name not in self.pressed:
                self.pressed.add(name)
                self._follow(name, address)

    def press(self, name, within="main", refused=None):
        """Press the button with this name, and look at the page that it leads to.

        Args:
            name: what stands on the button.
            within: where it is.
            refused: the status of the reply, if the form is refused.
        """
        button = self.page.locator(within).get_by_role("button", name=name, exact=True).first
        self.pressed.add(name_of(button))
        with self.page.expect_navigation() as answered:
            button.click()
        if answered.value.status != (refused or 200):
            self.faults.append(f"{self.page.url}: {name} is answered with {answered.value.status}")
        # The browser says so too.
        if refused:
            self.page.problems = [one for one in self.page.problems if f"status of {refused}" not in one]
        self.look()

    def saved(self, name, figure):
        """Press a button below a figure. Return the name and the content of the file that is saved."""
        button = self.page.locator(f"figure.{figure}").first.get_by_role("button", name=name)
        self.pressed.add(name_of(button))
        with self.page.expect_download() as saved:
            button.click()
        return saved.value.suggested_filename, saved.value.path().read_bytes()

    def heading(self, text):
        expect(self.page.get_by_role("heading", level=1)).to_have_text(text)

    def _follow(self, name, address):
        kind = name.partition(" -> ")[2]
        reply = self.page.request.get(address)
        expected = HEADINGS.get(kind, "a line in HEADINGS")
        heading = _heading(reply)
        if reply.status != 200 or expected not in {heading, reply.headers["content-type"].partition(";")[0]}:
            self.faults.append(f"{self.page.url}: {name} leads to {reply.status} {heading}, not to {expected}")


def _heading(reply):
    found = re.search(r"<h1[^>]*>(.*?)</h1>", reply.text(), re.DOTALL)
    return found and re.sub(r"[0-9]+", "#", re.sub(r"<[^>]*>", "", found[1])).strip()
