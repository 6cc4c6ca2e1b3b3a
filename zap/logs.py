"""Structured logs on standard error: one event a line, with the id of its request."""

import atexit
import logging
import logging.config
import sys
import threading
import time
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from enum import Enum
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from zap.settings import Settings
from zap.standard_error import tell_events

# The id of the request of this context; every event that is logged in the context has it.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
# The id of the trace of this context, if traces are sent.
TRACE_ID: ContextVar[str | None] = ContextVar("trace_id", default=None)
# The first of equal warnings or errors is shown in full. Then their number is shown once in this time.
REPEATED_SECONDS = 10.0
# Events are equal if their name and these values are equal; their request, times and traceback may differ.
_TELLING = ("problem", "reason", "error", "look", "model_version", "run_id")
# How many different events are counted at a time.
_MOST_EVENTS = 500


class _Stderr(logging.StreamHandler[TextIO]):
    """Write to what `sys.stderr` is now: progress bars replace it, so that lines appear above the bars."""

    def __init__(self) -> None:
        # StreamHandler would keep the present stream.
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class Repeated(logging.Filter):
    """Show the first of equal warnings or errors, and count the repetitions.

    On a full disk every request fails with the same error: thousands of log lines would fill the disk further.
    """

    def __init__(self) -> None:
        super().__init__()
        # For each event: since when it is counted, how often it was repeated since then, and its last record.
        self._events: dict[tuple[str, ...], tuple[float, int, logging.LogRecord]] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        atexit.register(self.show_counts)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown now."""
        if record.levelno < logging.WARNING or getattr(record, "repeated", False):
            return True
        key = (record.name, record.levelname, *_told(record))
        with self._lock:
            now = time.monotonic()
            seen = self._events.get(key)
            if seen is None or now - seen[0] >= REPEATED_SECONDS:
                if seen is None and len(self._events) >= _MOST_EVENTS:
                    # Forget the oldest event; a dict keeps the order of insertion.
                    del self._events[next(iter(self._events))]
                if seen is None or seen[1] == 0:
                    self._events[key] = (now, 0, record)
                    return True
            self._events[key] = (seen[0], seen[1] + 1, record)
            self._count_later()
        return False

    def show_counts(self) -> None:
        """Show how often events were repeated, and start counting again."""
        with self._lock:
            self._timer = None
            now = time.monotonic()
            counted = {key: seen for key, seen in self._events.items() if seen[1]}
            self._events = {key: (now, 0, seen[2]) for key, seen in counted.items()}
        for since, times, last in counted.values():
            logging.getLogger(last.name).handle(_count_of(last, times, now - since))

    def _count_later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(REPEATED_SECONDS, self.show_counts)
            self._timer.daemon = True
            try:
                self._timer.start()
            except RuntimeError:
                # The system has no thread left; the next repeated event tries again.
                self._timer = None


def show_repeated() -> None:
    """Show the counts of repeated events now, because a process that a signal ends shows nothing later."""
    for handler in logging.getLogger().handlers:
        for one in handler.filters:
            if isinstance(one, Repeated):
                one.show_counts()


def _told(record: logging.LogRecord) -> list[str]:
    if isinstance(record.msg, dict):
        error = record.msg.get("exc_info")
        raised = sys.exc_info()[1] if error is True else error
        said = [str(record.msg.get(name)) for name in ("event", *_TELLING)]
        return [*said, f"{type(raised).__name__}: {raised}"[:200]]
    return [record.getMessage()]


def _count_of(last: logging.LogRecord, times: int, seconds: float) -> logging.LogRecord:
    """Return the record of an event with its number of repetitions, without its request and its traceback."""
    values = logging.makeLogRecord(last.__dict__)
    said = dict(last.msg) if isinstance(last.msg, dict) else {"event": last.getMessage()}
    for name in ("exc_info", "request_id", "trace_id", "exception", "stack"):
        said.pop(name, None)
    if isinstance(last.msg, dict):
        values.msg = {**said, "repeated": times, "seconds": round(seconds)}
    else:
        values.msg, values.args = f"{said['event']} (repeated {times} times in {seconds:.0f} s)", ()
    values.exc_info, values.exc_text = None, None
    values.repeated = True
    return values


# Control characters, with which logged text could make a terminal show other lines or type commands. JSON escapes the
# first of them itself.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROL_IN_LINES = {code: escaped for code, escaped in _CONTROL.items() if chr(code) not in "\n\t"}


def _printable(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters in an event: paths and messages may hold text that a client sent."""
    return {
        name: value.translate(_CONTROL_IN_LINES if name in {"event", "exception"} else _CONTROL)
        if isinstance(value, str)
        else value
        for name, value in event.items()
    }


def _plain(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace members of enumerations, such as HTTPStatus, by their values: a status is shown as its number."""
    return {name: value.value if isinstance(value, Enum) else value for name, value in event.items()}


def _print_exception(output: TextIO, exc_info: Any) -> None:
    """Write a traceback with its control characters escaped."""
    output.write("\n" + "".join(traceback.format_exception(*exc_info)).rstrip().translate(_CONTROL_IN_LINES))


def shown_format(settings: Settings) -> Literal["console", "json"]:
    """Return the format of the log of this process: `auto` means for people on a terminal, and JSON otherwise."""
    if settings.log_format != "auto":
        return settings.log_format
    return "console" if _is_terminal() else "json"


def log_of_command(settings: Settings) -> Settings:
    """Return the settings for the log of a command that does not serve: plain lines, only about errors and warnings.

    The person who typed the command reads what the command itself prints. If ZAP_LOG_FORMAT or ZAP_LOG_LEVEL is set,
    this setting holds for commands too; a log in JSON has the events of every level.
    """
    if settings.log_format == "json":
        return settings
    plain: dict[str, Any] = {"log_format": "console"}
    if "log_level" not in settings.model_fields_set:
        plain["log_level"] = "WARNING"
    return settings.model_copy(update=plain)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration for `logging.config` and uvicorn: events of zap and of libraries have one form."""
    renderers = (
        [_printable, structlog.dev.ConsoleRenderer(colors=_is_terminal(), exception_formatter=_print_exception)]
        if shown_format(settings) == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
                "foreign_pre_chain": _PROCESSORS,
            }
        },
        "filters": {"repeated": {"()": Repeated}},
        "handlers": {
            "stderr": {
                "()": _Stderr,
                "formatter": "structured",
                "filters": ["repeated"],
            }
        },
        "root": {"handlers": ["stderr"], "level": settings.log_level},
        "loggers": {
            # Alembic would log each step of its start; zap reports the upgrade itself.
            "alembic": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
        },
    }


def _with_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    trace_id = TRACE_ID.get()
    if trace_id is not None:
        event.setdefault("trace_id", trace_id)
    return event


_PROCESSORS: list[Any] = [
    _plain,
    _with_request_id,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logs(settings: Settings) -> None:
    """Configure the logs of this process: zap's events pass through the standard library's logging.

    If the log format is `json` (not `auto`), warnings of libraries, uncaught errors and the lines of `tell` are events
    too, so that every line is JSON.
    """
    logging.config.dictConfig(logging_config(settings))
    structlog.configure(
        processors=[*_PROCESSORS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    every_line = settings.log_format == "json"
    tell_events(on=every_line)
    if every_line:
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = lambda ended: _log_uncaught(ended.exc_type, ended.exc_value, ended.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Log an error that nothing has handled as one event with its traceback."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        structlog.get_logger("zap").critical("unexpected error", exc_info=(kind, error, trace))
