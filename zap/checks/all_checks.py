"""All checks in order: the checks of `zap check`, and the checks that a server makes at its start."""

from collections.abc import Callable, Iterator

from zap.checks.access import look_at_access
from zap.checks.finding import Finding
from zap.checks.folders import look_at_folders
from zap.checks.machine import look_at_machine
from zap.checks.variables import look_at_variables
from zap.settings import Settings


def at_start(settings: Settings) -> Iterator[Finding]:
    """Yield what a server checks before it opens the database. It takes milliseconds, and asks nobody."""
    yield from look_at_variables()
    yield from look_at_access(settings)
    yield from look_at_machine(settings)
    yield from look_at_folders(settings)


def everything(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the settings and all their surroundings."""
    from zap.checks.learning import look_at_learning  # noqa: PLC0415 - heavy
    from zap.checks.neighbours import look_at_address, look_at_receiver  # noqa: PLC0415 - heavy

    yield from at_start(settings)
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (look_at_address, look_at_receiver)
    for look in checks:
        yield from look(settings)
    missing = list(look_at_learning())
    yield from missing
    if not missing:
        # What reads the model needs LightGBM already when it is imported.
        from zap.checks.database import look_at_database  # noqa: PLC0415

        yield from look_at_database(settings)
