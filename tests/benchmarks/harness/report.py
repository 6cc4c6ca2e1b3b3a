"""Show the results of a run: tables for people, Markdown for the manual."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def tables(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and rows of each table."""
    found = []
    for name, scenario in result["scenarios"].items():
        if scenario["servers"]:
            rows = [_server_row(key, one, scenario["ratios"]) for key, one in scenario["servers"].items()]
            heads = ["server", "requests/s", "p50 ms", "p99 ms", "server CPU µs"]
            if name in {"many", "follower", "key"}:
                found.append((scenario["title"], [*heads, "ratio to the ceiling"], rows))
            else:
                found.append((scenario["title"], heads, [row[:-1] for row in rows]))
    heads = ["figure", "measured", "required", "target", "reached"]
    found.append(("Required figures", heads, [_asked_row(row) for row in result["asked"]]))
    return found


def notes(result: Mapping[str, Any]) -> list[str]:
    """Where and how it was measured, and what is missing."""
    run = result["run"]
    lines = _conditions(result)
    if run["client"] == "python":
        lines.append(
            "wrk is not here, so the load came from the bundled Python client, WHICH IS THE BOTTLENECK of the fast"
            " servers: their ratios are too close to 1. On Debian and Ubuntu: apt-get install wrk."
        )
    lines += [f"REFUSED: {name}: {reason}." for name, reason in result["refused"].items()]
    lines += [f"Not measured: {reason}." for reason in result["missing"].values()]
    lines += [
        f"{scenario['title']}: not measured, {scenario['why_not']}."
        for scenario in result["scenarios"].values()
        if scenario["why_not"]
    ]
    batch = result["scenarios"].get("batch", {}).get("figures", {})
    if "batch_rows_per_second" in batch:
        lines.append(
            f"A batch: {batch['batch_rows_per_second']:,} rows/s. LightGBM alone, on the finished matrix on this core:"
            f" {batch['booster_rows_per_second']:,} rows/s."
        )
    work = result["scenarios"].get("follower", {}).get("figures", {})
    if "followed_per_second" in work:
        lines.append(f"While requests came, `zap follow` followed {work['followed_per_second']:,} answers a second.")
    if "tried_per_second" in work:
        lines.append(f"The challenger of the trial answered {work['tried_per_second']:,} requests a second meanwhile.")
    return lines


def _conditions(result: Mapping[str, Any]) -> list[str]:
    machine, run, disk = result["machine"], result["run"], result["disk"]
    where = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['kernel']}"
    how = f"{run['rounds']} alternating rounds of {run['seconds']:g} s; {run['cores']}"
    low, high = disk["spread"]
    syncs = f"{disk['syncs_per_second']:,.0f} fdatasync of 12 KiB a second ({low:,.0f}-{high:,.0f})"
    busy = machine["load_average"] or 0
    noise = (
        f"; OTHER WORK WAS GOING ON (load average before the run {busy}), so all this is noisy" if busy > 0.5 else ""
    )
    return [
        f"{machine['date']}: {where}{noise}.",
        f"{how}. The tables show medians, and in brackets the lowest and the highest round.",
        f"The disk under the databases: {syncs}.",
    ]


def as_text(result: Mapping[str, Any]) -> str:
    blocks = ["\n".join(notes(result))]
    for title, heads, rows in tables(result):
        widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (heads, ["-" * width for width in widths], *rows)
        ]
        blocks.append("\n".join([title, *lines]))
    return "\n\n".join(blocks)


def as_markdown(result: Mapping[str, Any], plot: str) -> str:
    blocks = [" ".join(notes(result)), f"![Requests per second of each server, as a ratio to the ceiling]({plot})"]
    for title, heads, rows in tables(result):
        lines = [_markdown_row(row) for row in (heads, ["---"] * len(heads), *rows)]
        blocks += [f"{title}:", "\n".join(lines)]
    return "\n\n".join(blocks)


def write_into(page: Path, markdown: str) -> None:
    """Replace what stands between the markers.

    Raises:
        ValueError: the markers are not there.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} ... {END} to write between")
    page.write_text(f"{before}{BEGIN}\n\n{markdown}\n\n{END}{after}")


def _server_row(name: str, server: Mapping[str, Any], ratios: Mapping[str, Any]) -> list[str]:
    over = ratios.get(f"{name} over ceiling: requests_per_second")
    return [
        server["title"],
        f"{server['requests_per_second']:,.0f}",
        f"{server['p50_ms']:.2f}",
        f"{server['p99_ms']:.2f}",
        "" if server["server_cpu_us"] is None else f"{server['server_cpu_us']:,.0f}",
        with_spread(over) if over else "",
    ]


def _asked_row(row: Mapping[str, Any]) -> list[str]:
    measured = with_spread(row["measured"]) if row["measured"] else ""
    return [row["figure"], measured, f"{row['at']} {row['bound']:g}", f"{row['aim']:g}", row["reached"]]


def with_spread(ratio: Mapping[str, Any]) -> str:
    """`0.45 (0.41-0.48)`, in three digits or so."""
    median, low, high = (_short(ratio[name]) for name in ("median", "lowest", "highest"))
    return f"{median} ({low}-{high})"


def _short(value: float) -> str:
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 0.1
        else f"{value:.3f}"
    )


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in cells) + " |"
