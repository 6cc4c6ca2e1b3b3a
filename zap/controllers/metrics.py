"""GET /metrics: the metrics of this server in the text formats of Prometheus and OpenMetrics."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from litestar import Controller, Request, Response, get
from litestar.datastructures import State

from zap.controllers.problems import problem_specs
from zap.monitoring.metric_families import FAMILIES, Samples
from zap.scopes import READ, needs

_OPENMETRICS = "application/openmetrics-text"
_PLAIN = "text/plain"
_UTF8 = "charset=utf-8"


class _Format(NamedTuple):
    """A text format: its media type, its version, and the module of prometheus_client that writes it."""

    media_type: str
    version: str
    module: str

    @property
    def content_type(self) -> str:
        """Return the value of Content-Type."""
        return f"{self.media_type}; version={self.version}; {_UTF8}"


_FORMATS = (
    _Format(_OPENMETRICS, "1.0.0", "prometheus_client.openmetrics.exposition"),
    _Format(_PLAIN, "1.0.0", "prometheus_client.exposition"),
    _Format(_PLAIN, "0.0.4", "prometheus_client.exposition"),
)
# The format for a client that accepts none of them, or does not say.
_USUAL = _FORMATS[-1]


class MetricsController(Controller):
    tags = ("serving",)

    @get(
        "/metrics",
        operation_id="getMetrics",
        summary="Metrics for Prometheus, over all processes of this machine's server",
        opt=needs(READ),
        media_type=_PLAIN,
        responses=problem_specs(503),
    )
    async def read(self, request: Request[Any, Any, State]) -> Response[bytes]:
        """Show metrics as Prometheus text, or as OpenMetrics if the client prefers that (`Accept`).

        Counts are sums over all processes of this machine, and go on when a process is replaced. Metrics of the model,
        of trainings, alarms and the follower are from the database, which all machines share.
        """
        text, content_type = await scraped(request.app.state, request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type, "vary": "Accept"})


async def scraped(state: State, accept: str) -> tuple[bytes, str]:
    """Return the metrics as a client reads them, and the Content-Type.

    Args:
        state: the parts of this process.
        accept: the value of the header Accept.
    """
    chosen = chosen_format(accept)
    samples = await state.database_metrics.samples()
    text = await state.metrics_threads.run(partial(_text, chosen, state.metrics.samples, samples))
    return text, chosen.content_type


def chosen_format(accept: str) -> _Format:
    """Return the format that a client likes best. Of equally liked formats it is the first in _FORMATS.

    Args:
        accept: the value of the header Accept; wrong parts of it are ignored.
    """
    liked = [(quality, -place) for place, one in enumerate(_FORMATS) if (quality := _liked(one, accept)) > 0]
    return _FORMATS[-max(liked)[1]] if liked else _USUAL


def _liked(one: _Format, accept: str) -> float:
    """Return the weight with which a client accepts a format: the weight of the part that says most about it."""
    best = (0, 0.0)
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        said = dict(_pairs(parameters))
        precision = {one.media_type: 2, f"{one.media_type.partition('/')[0]}/*": 1, "*/*": 1}.get(media_type, 0)
        if media_type == one.media_type and "version" in said:
            precision = 3 if said["version"] == one.version else 0
        elif precision and one is not _USUAL and media_type != _OPENMETRICS:
            # A client that names no version may not know a newer one.
            precision = 0
        try:
            best = max(best, (precision, float(said.get("q", "1")))) if precision else best
        except ValueError:
            continue
    return best[1]


def _pairs(parameters: list[str]) -> Iterator[tuple[str, str]]:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        yield name.strip(), value.strip().strip('"')


def _text(chosen: _Format, samples: Callable[[Samples], Samples], of_database: Samples) -> bytes:
    # Imported with the first scrape: it takes 30 ms, and most servers are never scraped.
    write = import_module(chosen.module).generate_latest
    text: bytes = write(_Families(samples(of_database)))
    return text


class _Families:
    """The metrics as prometheus_client reads them."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Any]:
        """Yield each metric with its samples."""
        metric = import_module("prometheus_client.metrics_core").Metric
        for name, family in FAMILIES.items():
            one = metric(name, family.says, family.kind, family.unit)
            for sample in self._samples[name]:
                one.add_sample(f"{name}{sample.suffix}", dict(sample.labels), sample.value)
            yield one
