"""The counts of answered requests: what the follower finds in their fields, added to the days of data quality."""

import struct
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, select
from sqlmodel import col

from zap.db.monitoring.data_quality_days import REQUESTS, apply
from zap.db.monitoring.log_portion import LoggedAnswer
from zap.db.tables import ModelVersion
from zap.monitoring.data_quality import Found, request_counts

_MOST_VERSIONS = 32
_NOTHING: Mapping[str, Any] = {"fields": {}, "categories": {}}


class _Contract(NamedTuple):
    """What a version demands of requests, and the names of its columns."""

    contract: Mapping[str, Any]
    columns: Sequence[str]


# By the digest of the version, so that a database that is replaced needs no other cache.
_contracts: OrderedDict[str, _Contract] = OrderedDict()


def count_requests(connection: Connection, answers: Sequence[LoggedAnswer]) -> None:
    """Count what is found in the requests of answers.

    The counts are correct only if every answer is counted once: count it in the transaction that follows it.

    Args:
        connection: a transaction that writes, of the only follower.
        answers: answers that are followed for the first time.
    """
    contracts = {number: _contract(connection, number) for number in {one.model_version for one in answers}}
    days: dict[date, Counter[Found]] = {}
    for one in answers:
        known = contracts[one.model_version]
        found = request_counts(_sent(one.text), known.contract, _scored(known.columns, one.features))
        days.setdefault(one.day, Counter()).update(found)
    apply(connection, REQUESTS, days)


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
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _scored(columns: Sequence[str], features: bytes | None) -> dict[str, float]:
    """Return the scored row by the names of its columns; {} if it is not stored."""
    if not columns or features is None or len(features) != 8 * len(columns):
        return {}
    return dict(zip(columns, struct.unpack(f"<{len(columns)}d", features), strict=True))
