"""Every example of README and the manual runs, in the order in which a reader meets them, against a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import psycopg
import pytest
from conftest import SHARED_DATA
from databases import postgresql_database
from forked import COMMANDS
from servers import Server
from sqlalchemy import make_url

import zap
from zap.pages.manual_pages import PAGES
from zap.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(zap.__file__).parent / "manual"
# What a test cannot run, and why.
NOT_RUN = {
    "make serve": "the server of this test is started in the same way",
    "make test": "it would run this test",
    "sudo apt-get install wrk": "it changes the machine, and make bench takes minutes",
    "make bench": "minutes; tests/benchmarks tests what it runs",
    "python tests/benchmarks/training.py": "minutes; tests/benchmarks/test_training.py tests it",
}
# The commands as the shell of a reader has them. An answer that is an error ends the example.
SHELL = """
curl() { command curl --fail-with-body --silent --show-error --max-time 240 "$@"; }
zap() { "$PYTHON" "$FORKED" "$COMMANDS" "$@"; }
alembic() { "$PYTHON" -m alembic "$@"; }
"""
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


class Reader:
    """Somebody who does what the manual says, in a folder with a server."""

    def __init__(self, folder, database):
        self.folder = folder
        self.settings = Settings(
            database_url=f"sqlite:///{folder / 'data' / 'charge_database_alt.sqlite'}", models_dir=folder / "models"
        )
        self.environment = {**os.environ, **self.settings.environment(), "PYTHON": sys.executable, "DATABASE": database}
        self.environment["NEW"] = f"sqlite:///{folder / 'moved.sqlite'}"
        self.environment["PYTHONPATH"] = str(ROOT)
        self.environment |= {"FORKED": forked.__file__, "COMMANDS": str(COMMANDS.connection().fileno())}
        self.prediction = None
        self.printed = ""
        # Small, so that the trainings of the manual take seconds. It has the drivers that the examples name.
        self.run("zap sample-history --drivers 15 --months 3")
        self.start()

    def start(self):
        self.server = Server(self.settings, "--bootstrap").wait(180)
        # zap check finds this server at its address, and nothing else.
        self.environment["ZAP_PORT"] = str(self.server.port)

    def run(self, text):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", SHELL + text],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300, check=False,
            pass_fds=[COMMANDS.connection().fileno()],
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def do(self, language, text):
        """Run one example; `printed` is what it says."""
        if language == "sh":
            if text.startswith(tuple(NOT_RUN)):
                return
            stopped = any(part in text for part in ("zap db restore", "zap db compact", "--finish"))
            if stopped:
                self.server.close()
            text = text.replace("http://127.0.0.1:8000", self.server.url).replace("43077", str(self.prediction))
            self.printed = self.run(text)
            if stopped:
                self.start()
            if found := re.findall(r'"prediction_id": ?(\d+)', self.printed):
                self.prediction = found[-1]
        elif language == "python":
            subprocess.run([sys.executable, "-c", text], cwd=self.folder, env=self.environment, check=True, timeout=300)
        elif language == "sql":
            self.grant(text)
        elif language == "ini":
            Settings(**{name[4:].lower(): value for name, _, value in (line.partition("=") for line in text.split())})
        elif language == "json":
            self.compare(text)
        else:
            # tests/faults/test_proxy.py starts nginx with its block, tests/pages render templates, and in tests/deploy
            # promtool checks the configuration of Prometheus. The lines for a console make images and change the
            # machine; tests/test_deploy.py tests their files.
            assert language in {"nginx", "powershell", "html", "console", "yaml"}, language

    def grant(self, text):
        with psycopg.connect(self.environment["DATABASE"]) as connection:
            connection.execute("CREATE ROLE zap_serving")
            connection.execute(text)
            connection.rollback()

    def compare(self, shown):
        """Whether a reply that is shown has names that the real one has."""
        if "urn:zap:problem" in shown:
            # The text tells the request; its reply is in test_the_reply_to_a_bad_request_is_the_one_that_is_shown.
            return
        assert missing(json.loads(shown), json.loads(self.printed)) == []


def missing(shown, real, place="#"):
    """Names of a shown reply that the real one lacks, and values of another kind."""
    if type(shown) is not type(real):
        return [f"{place}: {type(real).__name__}"]
    if isinstance(shown, dict):
        absent = [f"{place}/{name}" for name in shown if name not in real]
        return absent + [
            one for name in shown if name in real for one in missing(shown[name], real[name], f"{place}/{name}")
        ]
    if isinstance(shown, list):
        return [one for first, second in zip(shown, real, strict=True) for one in missing(first, second, f"{place}/-")]
    return []


@pytest.fixture
def reader(tmp_path, request):
    for name in ("alembic.ini", "migrations"):
        (tmp_path / name).symlink_to(ROOT / name)
    if (SHARED_DATA / "charge_database_alt.sqlite").exists():
        shutil.copy(SHARED_DATA / "charge_database_alt.sqlite", tmp_path / "earlier.sqlite")
    with postgresql_database(request.getfixturevalue("_postgresql_at_head")) as url:
        database = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        reader = Reader(tmp_path, database)
        yield reader
        reader.server.close()


def test_every_example_runs(reader):
    for page in (ROOT / "README.md", *(FOLDER / f"{name}.md" for name in PAGES)):
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            try:
                reader.do(language, text)
            except Exception as error:
                error.add_note(f"{page.name}:\n{text}")
                raise


def test_the_reply_to_a_bad_request_is_the_one_that_is_shown(sqlite_client, good_request):
    page = (FOLDER / "predicting.md").read_text()
    (shown,) = [json.loads(text) for language, text in BLOCK.findall(page) if "urn:zap:problem" in text]

    real = sqlite_client.post("/predict", json=good_request | {"temperature_c": 99, "user_typ": "Commuter"}).json()

    assert real | {"request_id": shown["request_id"]} == shown
