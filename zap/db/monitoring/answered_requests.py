"""The counts of answered requests: what the follower finds in their fields, added to the days of data quality."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import Connection, select
from sqlmodel import col

from zap.db.monitoring.data_quality_days import REQUESTS, apply, day_of
from zap.db.monitoring.log_portion import LoggedAnswer
from zap.db.monitoring.removals import read_removed_before
from zap.db.tables import ModelVersion
from zap.monitoring.data_quality import Found, request_counts

_MOST_VERSIONS = 32
_NOTHING: Mapping[str, Any] = {"fields": {}, "categories": {}}


class _Contract(NamedTuple):
    """What a version demands of requests, and the names of its columns."""

    contract: Mapping[str, Any]
    columns: Sequence[str]

    @property
    def row_bytes(self) -> int:
        """Return the size of a scored row."""
        return 8 * len(self.columns)


# By the digest of the version, so that a database that is replaced needs no other cache.
_contracts: OrderedDict[str, _Contract] = OrderedDict()


def count_requests(connection: Connection, answers: Sequence[LoggedAnswer]) -> Callable[[Connection], None]:
    """Count what is found in the requests of answers. Return a function that adds the counts to the stored counts.

    The counts are correct only if every answer is counted once: add them in the transaction that follows the answers.

    Args:
        connection: on the database.
        answers: answers that are followed for the first time.
    """
    groups: dict[tuple[date, int | None, bool], list[LoggedAnswer]] = {}
    if (removed_before := read_removed_before(connection)) is not None:
        # If the follower begins anew, the counts of these days stay, because some of their requests were removed.
        answers = [one for one in answers if one.day >= day_of(removed_before)]
    contracts = {number: _contract(connection, number) for number in {one.model_version for one in answers}}
    for one in answers:
        row_bytes = contracts[one.model_version].row_bytes
        has_row = one.features is not None and len(one.features) == row_bytes
        groups.setdefault((one.day, one.model_version, has_row), []).append(one)
    days: dict[date, Counter[Found]] = {}
    for (day, version, has_row), some in groups.items():
        known = contracts[version]
        scored = _scored(known.columns, [one.features or b"" for one in some]) if has_row else {}
        found = request_counts([_sent(one.text) for one in some], known.contract, scored)
        days.setdefault(day, Counter()).update(found)
    return lambda writing: apply(writing, REQUESTS, days)


def _contract(connection: Connection, number: int | None) -> _Contract:
    """Return the contract of a version; an empty one for answers that are older than zap."""
    this = col(ModelVersion.model_version) == number
    digest = None if number is None else connection.scalar(select(col(ModelVersion.sha256)).where(this))
    if digest is None:
        return _Contract(_NOTHING, ())
    if digest not in _contracts:
        row = connection.execute(select(col(ModelVersion.contract), col(ModelVersion.columns)).where(this)).one()
        _contracts[digest] = _Contract({**_NOTHING, **(row.contract or {})}, row.columns or ())
        if len(_contracts) > _MOST_VERSIONS:
            _contracts.popitem(last=False)
    _contracts.move_to_end(digest)
    return _contracts[digest]


def _sent(text: str) -> Any:
    """Return the JSON of a request; None for the text of an older database that is no JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def _scored(columns: Sequence[str], features: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Return the scored rows by the names of their columns; {} if the version has no columns."""
    if not columns:
        return {}
    matrix = np.frombuffer(b"".join(features), "<f8").reshape(-1, len(columns))
    return dict(zip(columns, matrix.T, strict=True))
