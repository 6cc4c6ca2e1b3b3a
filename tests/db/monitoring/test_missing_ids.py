"""Ids that a transaction may still have: found late, given up after ten minutes, and bounded."""

from datetime import UTC, datetime, timedelta

from zap.db.monitoring.missing_ids import LONGEST, MOST, MissingIds, gaps, without, young

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_it_works():
    missing = list(gaps(3, [4, 7, 8, 12], NOW))

    assert missing == [MissingIds(5, 6, NOW), MissingIds(9, 11, NOW)]
    assert without(missing, [5, 10]) == (MissingIds(6, 6, NOW), MissingIds(9, 9, NOW), MissingIds(11, 11, NOW))
    assert without(missing, [5, 6, 9, 10, 11]) == ()


def test_what_is_old_is_given_up_after_a_last_look():
    missing = [MissingIds(1, 1, NOW), MissingIds(3, 3, NOW + timedelta(minutes=1))]

    assert young(missing, NOW + LONGEST, aged=True) == (missing[1],)
    assert young(missing, NOW + LONGEST, aged=False) == tuple(missing)


def test_their_number_is_bounded_and_the_newest_stay():
    missing = list(gaps(0, range(2, 3 * MOST, 2), NOW))

    assert young(missing, NOW, aged=False) == tuple(missing[-MOST:])
