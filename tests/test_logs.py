"""Logs: one event a line, JSON for machines, words for people."""

import json
import subprocess
import sys

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
