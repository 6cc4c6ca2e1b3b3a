"""The stored spellings of charger types, user types and vehicle models, which new sessions get."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from zap.db.history.history_rows import SESSION_FACTS, SESSIONS, USERS, VEHICLES
from zap.formats.spellings import frequent_spellings, name_key
from zap.ml.cells import is_nothing, plain_text

# For each kind of name, the columns of the tables that hold it. The first column has the fewest rows, and the last
# column has the name of each session.
KINDS: Mapping[str, tuple[ColumnElement[Any], ...]] = {
    "charger_type": (SESSIONS.c.charger_type,),
    "user_type": (USERS.c.user_type, SESSION_FACTS.c.user_type),
    "vehicle_model": (VEHICLES.c.vehicle_model, SESSION_FACTS.c.vehicle_model),
}
# If a history has more charger types than this, zap does not look at the further types.
_MOST_TYPES = 1_000
# Spellings with more sessions than this count as equally frequent.
_MOST_COUNTED = 100_000

# For each name, its stored spellings in their plain form, each with the texts that are stored.
_Known = dict[str, dict[str, set[str]]]


def stored_spellings(connection: Connection, kind: str, counts: Mapping[str, int]) -> dict[str, str]:
    """Return for each text to replace the spelling to store.

    A text stays as it is if it is stored already. Otherwise it gets the stored spelling of its name. If several
    spellings are stored, it gets the spelling with the most sessions. If no spelling of the name is stored, it gets the
    spelling that is most frequent in `counts`.

    Args:
        connection: on a database at head.
        kind: one of KINDS.
        counts: the plain texts of new sessions, each with the number of these sessions.
    """
    known = _known(connection, kind, counts)
    changed = frequent_spellings({text: number for text, number in counts.items() if name_key(text) not in known})
    for text in counts:
        stored = known.get(name_key(text), {})
        if stored and text not in stored:
            changed[text] = next(iter(stored)) if len(stored) == 1 else _most_used(connection, kind, stored)
    return changed


def _known(connection: Connection, kind: str, texts: Collection[str]) -> _Known:
    """Return the stored spellings of the names of these texts.

    If each of the texts is stored, some other spellings may not be in the result.
    """
    missing, wanted = set(texts), {name_key(text) for text in texts}
    known: _Known = {}
    for column in KINDS[kind]:
        if not missing:
            break
        for stored in connection.scalars(_DIFFERENT[column]):
            # A cell of SQLite may hold a value of any type.
            if isinstance(stored, str) and name_key(stored) in wanted and not is_nothing(stored):
                plain = plain_text(stored)
                known.setdefault(name_key(stored), {}).setdefault(plain, set()).add(stored)
                missing.discard(plain)
    return known


def _type_after_type() -> Select[Any]:
    """Return the query for the different charger types.

    Each step finds the next type in the index. A query with DISTINCT would read the whole index or table.
    """
    column = SESSIONS.c.charger_type
    first = select(func.min(column).label("text")).cte("types", recursive=True)
    following = select(func.min(column)).where(column > first.c.text).scalar_subquery()
    types = first.union_all(select(following).where(first.c.text.is_not(None)))
    return select(types.c.text).where(types.c.text.is_not(None)).limit(_MOST_TYPES)


# For each column of KINDS, the query for its different texts.
_DIFFERENT = {
    column: select(column).where(column.is_not(None)).distinct() for columns in KINDS.values() for column in columns
} | {SESSIONS.c.charger_type: _type_after_type()}


def _most_used(connection: Connection, kind: str, spellings: Mapping[str, Collection[str]]) -> str:
    """Return the spelling with the most sessions; of equally frequent spellings, the first in the order of texts."""
    column = KINDS[kind][-1]
    counts = {}
    for plain, texts in spellings.items():
        some = select(column).where(column.in_(sorted(texts))).limit(_MOST_COUNTED).subquery()
        counts[plain] = connection.scalar(select(func.count()).select_from(some)) or 0
    return min(spellings, key=lambda plain: (-counts[plain], plain))
