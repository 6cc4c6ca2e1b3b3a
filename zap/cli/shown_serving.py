"""The tables of `zap serving`."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zap.cli.tables import console, number, text
from zap.flows.serving_figures import ServingFigures, SpanFigures

_ROUTES = {
    "predict": "POST /predict",
    "batch": "POST /predict/batch",
    "training": "POST /train-model",
    "other": "others",
}


def print_serving(figures: ServingFigures) -> None:
    """Print the answers of each group of routes in the last hour, day and week, and the log delay."""
    out = console()
    if not any(span.answered or span.refused or span.failed for span in figures.spans):
        out.print("No server has answered a request in the last week. The present minute is not counted yet.")
        return
    for span in figures.spans:
        out.print(_routes(span))
    out.print(_log_delays(figures))
    out.print(
        f"Times are at most the shown ones, which are too high by at most {100 * figures.resolution:.0f} %. The present"
        " minute is not counted yet."
    )


def _routes(span: SpanFigures) -> Table:
    table = Table(
        text("route"),
        *map(number, ("answered", "a minute", "refused", "errors", "p50 ms", "p99 ms")),
        title=f"last {span.span}: from {span.since:%Y-%m-%d %H:%M} to {span.until:%Y-%m-%d %H:%M} (UTC)",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for route in span.routes:
        if route.answered or route.refused or route.failed:
            counts = (f"{route.refused:,}", f"{route.failed:,}")
            rate = f"{route.answered_per_minute or 0:,.1f}"
            times = (_ms(route.p50_ms), _ms(route.p99_ms))
            table.add_row(_ROUTES[route.route], f"{route.answered:,}", rate, *counts, *times)
    return table


def _log_delays(figures: ServingFigures) -> Table:
    table = Table(
        text("last"),
        *map(number, ("committed", "p50 ms", "p99 ms")),
        title="log delay: from a computed prediction to its commit",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for span in figures.spans:
        delay = span.log_delay
        table.add_row(span.span, f"{delay.committed:,}", _ms(delay.p50_ms), _ms(delay.p99_ms))
    return table


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.4g}"
