"""A trained database with something to show on every page: answers, outcomes, monitors, versions, a trial."""

from filled import fill
from monitored import count_quality, monitor
from trialled import add_copies

from zap.db.versions.promotions import promote_version
from zap.flows.trials import try_version
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions


def use(engine):
    """Use a trained database: version 1 serves, after version 2 served for a moment; version 3 is on trial."""
    fill(engine)
    monitor(engine)
    count_quality(engine)
    add_copies(engine, 3)
    promote_version(engine, 2, Reason(who="Olena", why="better in the test"))
    promote_version(engine, 1, Reason(who="Taras"))
    try_version(engine, 3, TrialOptions(who="Taras", why="it knows newer sessions"))
