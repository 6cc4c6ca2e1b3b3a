"""The plot: for each server its requests per second over the ceiling's, with the spread, as SVG."""

from collections.abc import Mapping
from html import escape
from typing import Any

_BAR, _GAP, _LEFT, _WIDE, _RIGHT, _TOP = 20, 10, 340, 380, 150, 50

# Readable on white and on black.
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.bar { fill: #8c959f; } .zap { fill: #1a7f37; }
.spread { stroke: #24292f; stroke-width: 1.5; }
.line { stroke: #24292f; stroke-dasharray: 3 3; opacity: .6; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .bar { fill: #768390; } .zap { fill: #3fb950; } .spread, .line { stroke: #e6edf3; }
}
"""


def as_svg(result: Mapping[str, Any]) -> str:
    """An empty picture where 64 connections were not measured against the ceiling."""
    scenario = result["scenarios"].get("many", {"servers": {}, "ratios": {}})
    rows = [
        (name, server["title"], over)
        for name, server in scenario["servers"].items()
        if (over := scenario["ratios"].get(f"{name} over ceiling: requests_per_second"))
    ]
    most = max([1.0, *(over["highest"] for *_, over in rows)])
    height = _TOP + len(rows) * (_BAR + _GAP) + 12
    at_ceiling = _LEFT + _WIDE / most
    bars = "\n".join(_bar(place, *row, most) for place, row in enumerate(rows))
    machine = result["machine"]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDE + _RIGHT} {height}" role="img">
<title>Requests per second over the Litestar ceiling</title>
<style>{_STYLE}</style>
<text class="title" x="8" y="20">Requests per second at 64 connections, over the Litestar ceiling (1)</text>
<text x="8" y="38">{escape(f"{machine['date']}, {machine['cpu']}; medians, with the lowest and highest round")}</text>
<line class="line" x1="{at_ceiling:.1f}" x2="{at_ceiling:.1f}" y1="{_TOP - 4}" y2="{height - 8}"/>
{bars}
</svg>
"""


def _bar(place: int, name: str, title: str, over: Mapping[str, Any], most: float) -> str:
    y = _TOP + place * (_BAR + _GAP)
    middle = y + _BAR / 2
    end, low, high = (_LEFT + _WIDE * over[key] / most for key in ("median", "lowest", "highest"))
    kind = "bar zap" if name in {"zap", "zap-normal"} else "bar"
    label = f"{over['median']:.3f}" if over["median"] < 0.1 else f"{over['median']:.2f}"
    return f"""<text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(title)}</text>
<rect class="{kind}" x="{_LEFT}" y="{y}" width="{max(end - _LEFT, 1):.1f}" height="{_BAR}"/>
<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>
<text x="{max(end, high) + 8:.1f}" y="{middle + 4}">{label}</text>"""
