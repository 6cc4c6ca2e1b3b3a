"""Logs: one event a line, JSON for machines, words for people."""

import json
import os
import re
import subprocess
import sys

from zap.logs import log_of_command
from zap.settings import Settings

CODE = """
import logging, structlog
from zap.logs import configure_logs
from zap.settings import read_settings
configure_logs(read_settings())
structlog.get_logger("zap.test").warning("it happened", count=3)
logging.getLogger("library").warning("a library says %s", "so")
logging.getLogger("library").info("not shown")
"""


def logged(log_format, level="WARNING"):
    environment = {"ZAP_LOG_FORMAT": log_format, "ZAP_LOG_LEVEL": level}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_is_the_form_where_nobody_watches():
    for log_format in ("json", "auto"):
        first, second = map(json.loads, logged(log_format))

        assert (first["event"], first["count"], first["level"], first["logger"]) == (
            "it happened", 3, "warning", "zap.test",
        )  # fmt: skip
        assert first["timestamp"].endswith("Z")
        assert (second["event"], second["logger"]) == ("a library says so", "library")


def test_console_is_for_people():
    first, second = logged("console")

    assert "it happened" in first
    assert "count" in first
    assert "a library says so" in second


def test_the_level_is_a_setting():
    assert len(logged("json", level="INFO")) == 3
    assert logged("json", level="ERROR") == []


STORM = """
import logging, structlog, time
from zap import logs
from zap.settings import read_settings
logs.REPEATED_SECONDS = 0.5
logs.configure_logs(read_settings())
log = structlog.get_logger("zap.test")
for number in range(1000):
    try:
        1 / 0
    except ZeroDivisionError as error:
        log.error("refused", problem="full", request_id=str(number), exc_info=error)
    logging.getLogger("library").warning("a library says %s", "so")
    log.error("unexpected error", exc_info=ValueError(number % 2))
    log.info("refused", request_id=str(number))
time.sleep(1.5)
log.error("refused", problem="full", request_id="again")
logs.show_repeated()
"""


def test_of_a_storm_the_first_is_shown_in_full_and_the_others_are_counted():
    environment = os.environ | {"ZAP_LOG_FORMAT": "json", "ZAP_LOG_LEVEL": "INFO"}
    done = subprocess.run([sys.executable, "-c", STORM], env=environment, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    told = [line for line in lines if line["level"] != "info"]

    # One line for each request that was refused for its own reasons, whatever comes beside it.
    assert len(lines) - len(told) == 1000
    first = [line for line in told if "ZeroDivisionError" in line.get("exception", "")]
    assert [line["request_id"] for line in first] == ["0"]
    # Two errors of other words are two events.
    assert len([line for line in told if "ValueError" in line.get("exception", "")]) == 2
    counts = [line for line in told if line["event"] == "refused" and "repeated" in line]
    assert sum(line["repeated"] for line in counts) == 999
    # After a while without any it is shown in full once more.
    assert [line["request_id"] for line in told if line.get("request_id") not in {None, "0"}] == ["again"]
    assert all("exception" not in line and "request_id" not in line for line in counts)
    assert any("a library says so (repeated" in line["event"] for line in told)
    assert len(told) < 60


def test_a_terminal_is_told_nothing_by_what_is_logged():
    code = (
        CODE
        + """
event = "\\x1b]0;title\\x07 \\x9b2J \\r\\n\\tover"
structlog.get_logger("zap.test").warning(event, path="/\\x1b[31m\\n\\x85")
try:
    raise ValueError("\\x1b[2J\\x08")
except ValueError:
    structlog.get_logger("zap.test").exception("failed")
"""
    )
    environment = os.environ | {"ZAP_LOG_FORMAT": "console", "ZAP_LOG_LEVEL": "INFO", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    # What is left are the colours of the log itself.
    shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
    assert [one for one in shown if not one.isprintable() and one not in "\n\t"] == []
    assert "\\x1b]0;title\\x07 \\x9b2J" in shown
    assert "/\\x1b[31m\\x0a\\x85" in shown
    assert "ValueError: \\x1b[2J\\x08" in shown


def test_a_status_is_a_number():
    code = """
import structlog
from http import HTTPStatus
from zap.logs import configure_logs
from zap.settings import read_settings
configure_logs(read_settings())
structlog.get_logger("zap.test").warning("refused", status=HTTPStatus.METHOD_NOT_ALLOWED)
"""
    for log_format, said in (("console", "status=405"), ("json", '"status": 405')):
        environment = os.environ | {"ZAP_LOG_FORMAT": log_format}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert said in done.stderr
        # A pipe gets no colours.
        assert "\x1b" not in done.stderr


def test_the_log_of_a_command_is_plain_and_only_of_what_is_wrong(monkeypatch):
    for name in ("ZAP_LOG_FORMAT", "ZAP_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)

    def of_command(**values):
        found = log_of_command(Settings(**values))
        return found.log_format, found.log_level

    assert of_command() == ("console", "WARNING")
    assert of_command(log_level="INFO") == ("console", "INFO")
    assert of_command(log_format="json") == ("json", "INFO")
