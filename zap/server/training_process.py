"""The process of one training of a server: its start, its lines in the server's log, and its end there."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import structlog

from zap.logs import shown_format
from zap.settings import Settings

log = structlog.get_logger(__name__)

# A longer line is shown in pieces.
_LONGEST_LINE = 65_536


def start_training(run_id: int, settings: Settings) -> subprocess.Popen[bytes]:
    """Start the process of a claimed run. Its lines on standard error appear in the log of this server.

    If the log of the server is JSON, every line is: a line that libraries or the system wrote becomes an event.
    """
    form = shown_format(settings)
    reading, writing = os.pipe()
    try:
        child = subprocess.Popen(  # noqa: S603 - of its own program
            [sys.executable, "-m", "zap", "train", "--run-id", str(run_id)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writing,
            env={**settings.training_environment(os.environ), "ZAP_LOG_FORMAT": form},
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    relay = threading.Thread(
        target=_relay, args=[reading, run_id], kwargs={"as_events": form == "json"}, name="training-lines", daemon=True
    )
    relay.start()
    return child


def log_end(run: dict[str, Any]) -> None:
    """Log how a run ended: its status and seconds, and its scores and its promotion, or the reason of its end."""
    report = run["report"] or {}
    seconds = (run["finished_at"] - run["started_at"]).total_seconds() if run["finished_at"] else None
    values = {"run_id": run["run_id"], "status": run["status"], "seconds": seconds}
    if run["status"] != "finished":
        log.warning("a training ended", **values, reason=report.get("detail"))
        return
    names = ("model_version", "test_f1_score", "log_loss", "verdict", "promotion")
    log.info("a training ended", **values, **{name: report.get(name) for name in names})


def _relay(reading: int, run_id: int, *, as_events: bool) -> None:
    """Write the lines of a training to the log of this process, until the training ends."""
    with os.fdopen(reading, "rb") as lines:
        while line := lines.readline(_LONGEST_LINE):
            text = line.decode(errors="backslashreplace").rstrip("\r\n")
            if as_events and not _is_event(text):
                if text.strip():
                    log.warning(text, run_id=run_id)
                continue
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()


def _is_event(text: str) -> bool:
    if not text.startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
