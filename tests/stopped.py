"""A stopped wall clock for zap's code in the process of a test."""

import sys

from zap.db import engine, tables
from zap.settings import Settings


def stop_clock(patch, moment):
    """Let all modules of zap that are loaded see a stopped wall clock; the monotonic clock goes on.

    Args:
        patch: a MonkeyPatch, whose undo lets the clock go on.
        moment: returns the moment (UTC).
    """
    clocks = {"utc_now": (tables.utc_now, moment), "database_now": (engine.database_now, lambda _: moment())}
    for name, module in list(sys.modules.items()):
        for clock, (real, stopped) in clocks.items() if name.startswith("zap.") else ():
            if getattr(module, clock, None) is real:
                patch.setattr(module, clock, stopped)
    patch.setattr(Settings, "wall_now", lambda self: self.wall_time(moment()))
