"""LightGBM: whether it can be loaded. It needs a library of the system that small images of containers lack."""

import sys
from collections.abc import Iterator

from zap.checks.finding import Finding


def look_at_learning() -> Iterator[Finding]:
    """Yield whether LightGBM cannot be loaded. It takes a second."""
    try:
        import lightgbm  # noqa: F401, PLC0415 - heavy
    except Exception as error:  # noqa: BLE001 - whatever prevents it is the finding
        yield Finding(
            "lightgbm-missing",
            "",
            str(error),
            f"LightGBM cannot be loaded ({error}), so zap can neither train nor predict",
            "on Debian and Ubuntu: apt-get install libgomp1"
            if sys.platform == "linux"
            else "install the OpenMP library of your system",
        )
