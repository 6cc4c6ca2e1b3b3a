"""Take the pictures of pages in README and manual, from the sample: make screenshots.

The history, the model and the answers are drawn with fixed seeds, so the figures do not change from run to run. The
answers are of the ten weeks before now, so the dates do. A page that is not made has no picture.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from filled import fill
from navigation import PAGES, pages_below
from PIL import Image
from playwright.sync_api import sync_playwright
from servers import Server

from zap.db.engine import create_engine
from zap.db.history.history_store import upsert_history
from zap.db.schema import upgrade
from zap.flows.training import run_training
from zap.ml.sample import sample_history
from zap.settings import Settings

MANUAL = Path(__file__).resolve().parents[1] / "zap" / "manual"
SIZE = {"width": 1280, "height": 800}
COLOURS = 128


def sample(folder):
    """Make a database with the sample history, a model, and weeks of answers; return its settings."""
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    history = sample_history()
    upsert_history(engine, history.users, history.vehicles, history.sessions)
    run_training(engine, settings, lambda *_: None)
    fill(engine, weeks=10, sessions=700, alarmed=False)
    engine.dispose()
    return settings


def pictures(page, url):
    """Yield the name and the address of each picture."""
    yield "pages-overview", "/"
    if "/pages/quality" in PAGES:
        yield "pages-quality", "/pages/quality"
    if "/pages/predictions" in PAGES:
        page.goto(f"{url}/pages/predictions")
        below = [one for one in pages_below(page.content()) if one.startswith("/pages/predictions/")]
        yield from (("pages-prediction", one) for one in below if one.rpartition("/")[2].isdecimal())


def small(png):
    """Return a picture with few colours, which a page of text and lines does not miss."""
    made = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        made, "PNG", optimize=True
    )
    return made.getvalue()


def main():
    chromium = next(
        (path for one in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(one))), None
    )
    if chromium is None:
        sys.exit("the pictures need Chromium. On Debian and Ubuntu: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="zap-pictures-") as folder, sync_playwright() as playwright:
        server = Server(sample(Path(folder)), anew=True).wait()
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            habits = {"color_scheme": "light", "locale": "en-GB", "timezone_id": "UTC", "reduced_motion": "reduce"}
            page = browser.new_context(viewport=SIZE, **habits).new_page()
            for name, address in pictures(page, server.url):
                page.goto(server.url + address)
                page.wait_for_timeout(500)
                file = MANUAL / f"{name}.png"
                file.write_bytes(small(page.screenshot()))
                print(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB")
            browser.close()
        finally:
            server.close()


if __name__ == "__main__":
    main()
