"""zap learns from the charging history which charger type fits a driver's next session, and answers in real time."""

from importlib.metadata import version

__version__ = version("zap")
