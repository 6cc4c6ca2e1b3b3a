"""The rows of one driver in the tables of zap.

`outcomes`, which the follower writes, is the index from a driver to the answers of a request that named the driver,
known or not. Requests whose answers are not in this index are read: requests without a driver, which may name a vehicle
of the driver, requests that the follower has not read, and requests without an answer, which other programs have left.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from zap.db.history.drivers import named_drivers
from zap.db.monitoring.given_rows import among, fetched, is_sqlite
from zap.db.monitoring.trial_predictions import followed_until
from zap.formats.logged_request import LoggedNames, names_in
from zap.ml.cells import plain_id

# How many requests are read at once.
_PORTION = 50_000
# Requests with smaller numbers than the newest one may be committed later on PostgreSQL, but none that is much older.
LATE_IDS = 10_000


class OtherRequests(NamedTuple):
    """Requests of a driver that are not in the index.

    Attributes:
        inputs: their numbers.
        until: all requests up to this number were read.
    """

    inputs: frozenset[int]
    until: int


class DriverRows(NamedTuple):
    """The numbers of a driver's rows.

    Attributes:
        user_id: the driver as the database has the id.
        users: how many rows of Users the driver has.
        vehicles, sessions, inputs, predictions: the ids of the rows of these tables.
    """

    user_id: str
    users: int
    vehicles: list[int]
    sessions: list[int]
    inputs: list[int]
    predictions: list[int]

    @property
    def are_none(self) -> bool:
        """Return whether the database has no row of the driver."""
        return not (self.users or self.vehicles or self.sessions or self.inputs or self.predictions)


def rows_of_driver(connection: Connection, user_id: str, others: OtherRequests) -> DriverRows:
    """Return the rows of a driver.

    Args:
        connection: on a database at head.
        user_id: the driver as the database has the id.
        others: the requests that are not in the index, as far as they were read before. Newer ones are read here.
    """
    mark = "?" if is_sqlite(connection) else "%s"
    users = fetched(connection, f'SELECT 1 FROM "Users" WHERE user_id = {mark}', [user_id])  # noqa: S608
    vehicles = vehicles_of(connection, user_id)
    newest = other_requests(connection, user_id, vehicles, max(0, others.until - LATE_IDS))
    inputs = others.inputs | newest.inputs | _indexed(connection, user_id)
    which, parameters = among(connection, "input_id", sorted(inputs))
    predictions = _numbers(connection, f"SELECT prediction_id FROM predictions WHERE {which}", parameters)  # noqa: S608
    # An answer whose request another program has removed is still in the index.
    predictions += _numbers(connection, f"SELECT prediction_id FROM outcomes WHERE user_id = {mark}", [user_id])  # noqa: S608
    which, parameters = among(connection, "input_id", sorted(inputs))
    stored = _numbers(connection, f"SELECT input_id FROM inference_inputs WHERE {which}", parameters)  # noqa: S608
    sessions = _sessions(connection, user_id, vehicles)
    return DriverRows(user_id, len(users), vehicles, sessions, sorted(stored), sorted(set(predictions)))


def vehicles_of(connection: Connection, user_id: str) -> list[int]:
    """Return the vehicles of a driver."""
    mark = "?" if is_sqlite(connection) else "%s"
    asked = f'SELECT vehicle_id FROM "Vehicles" WHERE user_id = {mark} ORDER BY vehicle_id'  # noqa: S608
    return _numbers(connection, asked, [user_id])


def other_requests(connection: Connection, user_id: str, vehicles: list[int], after: int = 0) -> OtherRequests:
    """Return the requests of a driver that the index does not have, in the order of their numbers.

    Args:
        connection: on a database at head.
        user_id: the driver as the database has the id.
        vehicles: the driver's vehicles. A request that names only a vehicle is a request of its driver.
        after: requests up to this number are left out.
    """
    found: set[int] = set()
    until = after
    theirs = frozenset(vehicles)
    for last, names in unindexed_requests(connection, after):
        found.update(number for number, one in names.items() if _is_of(connection, one, user_id, theirs))
        until = last
    return OtherRequests(frozenset(found), until)


def unindexed_requests(connection: Connection, after: int = 0) -> Iterator[tuple[int, Mapping[int, LoggedNames]]]:
    """Yield for each portion of requests the last number, and what the requests outside the index name."""
    # Read before the sets, so that a request that comes meanwhile is a newer one, which is read again.
    ((newest,),) = fetched(connection, "SELECT max(input_id) FROM inference_inputs")
    numbers = _unindexed(connection) if after == 0 else None
    if numbers is None:
        yield from _searched(connection, after)
        return
    for first in range(0, len(numbers), _PORTION):
        some = numbers[first : first + _PORTION]
        which, parameters = among(connection, "input_id", some)
        asked = f"SELECT input_id, input_data_json FROM inference_inputs WHERE {which}"  # noqa: S608
        yield some[-1], {number: names_in(text or "") for number, text in fetched(connection, asked, parameters)}
    # All requests up to the newest one are in the index, or were read above.
    yield newest or 0, {}


def _unindexed(connection: Connection) -> list[int] | None:
    """Return the requests that the index does not have; None if a whole search has to find them.

    The index has an entry for each answer up to the mark of the follower. So three sets are left, which the database
    finds without a look at each answer. The counts of answers and of entries show whether another program has removed
    entries.
    """
    mark = "?" if is_sqlite(connection) else "%s"
    not_followed = fetched(
        connection,
        "SELECT p.prediction_id, p.input_id FROM predictions AS p"  # noqa: S608
        " LEFT JOIN outcomes AS o ON o.prediction_id = p.prediction_id"
        f" WHERE p.prediction_id > {mark} AND p.input_id IS NOT NULL AND o.prediction_id IS NULL",
        [followed_until(connection)],
    )
    ((answers,),) = fetched(connection, "SELECT count(*) FROM predictions WHERE input_id IS NOT NULL")
    ((entries,),) = fetched(connection, "SELECT count(*) FROM outcomes")
    if answers - entries != len(not_followed):
        return None
    without_driver = _numbers(
        connection,
        "SELECT p.input_id FROM outcomes AS o JOIN predictions AS p ON p.prediction_id = o.prediction_id"
        " WHERE o.user_id IS NULL AND p.input_id IS NOT NULL",
        [],
    )
    without_answer = _numbers(
        connection,
        "SELECT i.input_id FROM inference_inputs AS i"
        " WHERE NOT EXISTS (SELECT 1 FROM predictions AS p WHERE p.input_id = i.input_id)",
        [],
    )
    return sorted({number for _, number in not_followed} | {*without_driver} | {*without_answer})


def _searched(connection: Connection, after: int) -> Iterator[tuple[int, Mapping[int, LoggedNames]]]:
    """Yield like `unindexed_requests`, with a look at each request after a number."""
    mark = "?" if is_sqlite(connection) else "%s"
    next_ids = f"SELECT input_id FROM inference_inputs WHERE input_id > {mark} ORDER BY input_id LIMIT {_PORTION}"  # noqa: S608
    newest = f"SELECT max(input_id) FROM ({next_ids}) AS next"  # noqa: S608
    predictions, outcomes = "predictions", "outcomes"
    if not is_sqlite(connection):
        # PostgreSQL would read both tables whole for each portion. So they are searched through their indexes.
        predictions = "LATERAL (SELECT * FROM predictions WHERE input_id = i.input_id OFFSET 0)"
        outcomes = "LATERAL (SELECT * FROM outcomes WHERE prediction_id = p.prediction_id OFFSET 0)"
    asked = (
        "SELECT i.input_id, i.input_data_json FROM inference_inputs AS i"  # noqa: S608
        f" LEFT JOIN {predictions} AS p ON p.input_id = i.input_id"
        f" LEFT JOIN {outcomes} AS o ON o.prediction_id = p.prediction_id"
        f" WHERE i.input_id > {mark} AND i.input_id <= {mark} AND o.user_id IS NULL"
    )
    while True:
        ((last,),) = fetched(connection, newest, [after])
        if last is None:
            return
        names = {number: names_in(text or "") for number, text in fetched(connection, asked, [after, last])}
        yield last, names
        after = last


def _is_of(connection: Connection, names: LoggedNames, user_id: str, vehicles: frozenset[int]) -> bool:
    """Return whether a request is the driver's: it names the driver, or only a vehicle of the driver."""
    if names.user_id is None:
        return names.vehicle_id in vehicles
    if names.user_id == user_id:
        return True
    return plain_id(names.user_id) == user_id and named_drivers(connection, [names.user_id]) == {names.user_id: user_id}


def _indexed(connection: Connection, user_id: str) -> frozenset[int]:
    """Return the requests of a driver that the index has."""
    mark = "?" if is_sqlite(connection) else "%s"
    asked = (
        "SELECT DISTINCT p.input_id, {text} FROM outcomes AS o"
        " JOIN predictions AS p ON p.prediction_id = o.prediction_id {more}"
        " WHERE o.user_id = {mark} AND p.input_id IS NOT NULL"
    )
    found = fetched(connection, asked.format(text="NULL", more="", mark=mark), [user_id])
    inputs = {number for number, _ in found}
    if (plain := plain_id(user_id)) != user_id:
        # The answers were given before the database knew a driver with the id in this form.
        more = "JOIN inference_inputs AS i ON i.input_id = p.input_id"
        found = fetched(connection, asked.format(text="i.input_data_json", more=more, mark=mark), [plain])
        inputs |= {number for number, text in found if names_in(text or "").user_id == user_id}
    return frozenset(inputs)


def _sessions(connection: Connection, user_id: str, vehicles: list[int]) -> list[int]:
    """Return the sessions of a driver, also sessions that name only a vehicle of the driver."""
    mark = "?" if is_sqlite(connection) else "%s"
    found = _numbers(connection, f'SELECT session_id FROM "ChargingSessions" WHERE user_id = {mark}', [user_id])  # noqa: S608
    which, parameters = among(connection, "vehicle_id", vehicles)
    of_vehicles = f'SELECT session_id FROM "ChargingSessions" WHERE user_id IS NULL AND {which}'  # noqa: S608
    return sorted(found + _numbers(connection, of_vehicles, parameters))


def _numbers(connection: Connection, query: str, parameters: Any) -> list[int]:
    return [number for (number,) in fetched(connection, query, parameters)]
