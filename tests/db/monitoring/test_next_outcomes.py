"""The next outcomes: in the order of the log, of all versions, and read by their numbers."""

import pytest
from followed import OUTCOMES, follow, log_answers, row_of
from sqlalchemy import event, text, update

from zap.db.engine import write_transaction
from zap.db.monitoring.next_outcomes import first_of, next_outcomes


@pytest.fixture
def followed(engine):
    """Return a database with nine outcomes."""
    log_answers(engine, *(row_of(number) for number in range(1, 10)))
    follow(engine)
    return engine


def test_outcomes_come_in_portions_of_all_versions(followed):
    with followed.connect() as connection:
        some = next_outcomes(connection, 2, 9, 3)
        rest = next_outcomes(connection, some.last, 9, 10)
        none = next_outcomes(connection, 9, 9, 10)
        found = [connection.execute(one.rows.select()).all() for one in (some, rest, none)]

    assert [[row.prediction_id for row in rows] for rows in found] == [[3, 4, 5], [6, 7, 8, 9], []]
    assert (some.last, some.are_all) == (5, False)
    assert (rest.last, rest.are_all) == (9, True)
    assert (none.last, none.are_all) == (None, True)


def test_the_first_outcome_of_a_version(followed):
    with write_transaction(followed) as connection:
        connection.execute(update(OUTCOMES).where(OUTCOMES.c.prediction_id >= 7).values(model_version=2))

    with followed.connect() as connection:
        assert first_of(connection, 2) == 7
        assert first_of(connection, 3) is None


def test_a_portion_is_read_by_number_without_statistics(followed):
    """With a condition on the version, both engines read its whole index for each portion."""
    asked = []
    event.listen(followed, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    with followed.connect() as connection:
        next_outcomes(connection, 2, 9, 3)
        statement, parameters = next(one for one in asked if "max(" in one[0])
        how = "EXPLAIN QUERY PLAN " if followed.dialect.name == "sqlite" else "EXPLAIN "
        if followed.dialect.name == "postgresql":
            # Few rows are read whole.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = str(connection.exec_driver_sql(how + statement, parameters).all())

    assert "USING INTEGER PRIMARY KEY" in plan or "pk_outcomes" in plan
