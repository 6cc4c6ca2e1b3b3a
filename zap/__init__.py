"""zap learns from the charging history which charger type fits a driver's next session, and predicts in real time."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

__all__ = ("evaluate", "load_model", "read_history")
__version__ = version("zap")

if TYPE_CHECKING:
    from zap.flows.analysis import evaluate, load_model, read_history
else:
    # The server and the command line import zap too, and do not need the imports of `analysis`.
    def __getattr__(name: str) -> object:
        """Import a name of `__all__` when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module 'zap' has no attribute {name!r}")
        return getattr(import_module("zap.flows.analysis"), name)

    def __dir__() -> list[str]:
        """Return the names of the package, with the ones that are not imported yet."""
        return sorted({*globals(), *__all__})
