"""OddCells: how odd values are treated and counted while tables are read."""

from typing import Any

from zap.db.moving.broken_rows import SHOWN, Finding
from zap.db.moving.canonical_values import Undecodable
from zap.db.moving.table_rows import OddCell
from zap.errors import UnsoundDatabase


class OddCells:
    """The odd values that were met, counted by column.

    Args:
        sqlite: whether the values are for a SQLite file, which takes almost any value as it is. Values for PostgreSQL
            are rewritten if they mean something there.
        refuses: whether a value that cannot be taken is refused at once. Otherwise it is only counted.
    """

    def __init__(self, *, sqlite: bool, refuses: bool) -> None:
        self._sqlite = sqlite
        self._refuses = refuses
        self._found: dict[tuple[str, str, bool], tuple[int, tuple[str, ...]]] = {}

    def treat(self, odd: OddCell) -> Any:
        """Count an odd value, and return the value to use.

        Raises:
            UnsoundDatabase: the value cannot be copied.
        """
        kept = self._sqlite and odd.fits_sqlite
        if kept and self._refuses:
            return odd.value
        self._count(odd)
        if odd.has_instead:
            return odd.value if kept else odd.instead
        if self._refuses:
            (finding,) = self.unreadable()
            raise UnsoundDatabase(f"{finding.sentence}. Correct this value, then try again")
        return bytes(odd.value) if isinstance(odd.value, Undecodable) else odd.value

    def unreadable(self) -> list[Finding]:
        """Return the values that mean nothing in their column."""
        return self._findings(readable=False)

    def rewritten(self) -> list[Finding]:
        """Return the values that have another form than zap's, but a clear meaning."""
        return self._findings(readable=True)

    def _count(self, odd: OddCell) -> None:
        place = odd.table, f"{odd.column} {odd.why}", odd.has_instead
        count, examples = self._found.get(place, (0, ()))
        if len(examples) < SHOWN:
            examples = (*examples, f"{odd.key} has {odd.shown}")
        self._found[place] = count + 1, examples

    def _findings(self, *, readable: bool) -> list[Finding]:
        return [
            Finding(table, what, count, examples)
            for (table, what, has_instead), (count, examples) in self._found.items()
            if has_instead == readable
        ]
