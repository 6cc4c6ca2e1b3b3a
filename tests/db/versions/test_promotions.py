"""Promotions: which version serves, changed by whom and why, and the way back."""

from threading import Barrier, Thread

import pytest
from sqlalchemy import insert, select, update
from sqlmodel import col

from zap.db.engine import create_engine, write_transaction
from zap.db.tables import ModelVersion, utc_now
from zap.db.versions.model_registry import prune_candidates
from zap.db.versions.promotions import (
    Change,
    earlier_version,
    list_promotions,
    promote,
    promote_version,
    roll_back,
    serving_version,
)
from zap.errors import NotFound, NotPromotable
from zap.formats.promotion_reason import Reason

PLAIN = Reason()


def with_candidates(settings):
    """An engine on a database with version 1 in production and the candidates 2 to 4, which are copies of it."""
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().one())
        row |= {"status": "candidate"}
        del row["model_version"]
        connection.execute(insert(ModelVersion), [row] * 3)
    return engine


@pytest.fixture
def registry(trained):
    engine = with_candidates(trained)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_registry(trained_sqlite):
    """For what does not depend on the engine."""
    engine = with_candidates(trained_sqlite)
    yield engine
    engine.dispose()


def serving(engine):
    with engine.connect() as connection:
        return serving_version(connection)


def statuses(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(col(ModelVersion.status)).order_by(col(ModelVersion.model_version))))


def changes(engine):
    """All changes, oldest first, without their numbers, times and reasons."""
    return [
        (one["action"], one["from_version"], one["to_version"]) for one in reversed(list_promotions(engine, limit=1000))
    ]


def damage(engine, number):
    with write_transaction(engine) as connection:
        this = col(ModelVersion.model_version) == number
        connection.execute(update(ModelVersion).where(this).values(artefact=b"damaged"))


def prune(engine):
    with write_transaction(engine) as connection:
        return prune_candidates(connection, keep=0)


def at_once(count, act):
    """What `count` threads that begin together return, or the NotPromotable that they raise."""
    barrier, found = Barrier(count), []

    def run(number):
        barrier.wait()
        try:
            found.append(act(number))
        except NotPromotable as error:
            found.append(error)

    threads = [Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count
    return found


def test_it_works(registry):
    begin = utc_now()

    change = promote_version(registry, 3, Reason(who="ann", why="it is better"))

    assert change == Change(from_version=1, to_version=3, changed=True)
    assert statuses(registry) == ["archived", "candidate", "production", "candidate"]
    newest = list_promotions(registry, limit=1)[0]
    assert begin <= newest.pop("promoted_at") <= utc_now()
    assert newest == {
        "promotion_id": 2,
        "action": "promote",
        "from_version": 1,
        "to_version": 3,
        "who": "ann",
        "why": "it is better",
    }

    assert roll_back(registry, Reason(who="bob", why="it is not")) == Change(from_version=3, to_version=1, changed=True)
    assert statuses(registry) == ["production", "candidate", "archived", "candidate"]
    newest = list_promotions(registry, limit=1)[0]
    assert (newest["action"], newest["who"], newest["why"]) == ("rollback", "bob", "it is not")


def test_the_training_recorded_its_own_promotion(sqlite_registry):
    (first,) = list_promotions(sqlite_registry, limit=10)

    assert (first["action"], first["from_version"], first["to_version"], first["who"]) == ("promote", None, 1, None)
    assert "training run 1" in first["why"]


def test_promoting_what_serves_changes_and_records_nothing(sqlite_registry):
    assert promote_version(sqlite_registry, 1, Reason(who="ann", why="again")) == Change(1, 1, changed=False)

    assert changes(sqlite_registry) == [("promote", None, 1)]
    assert statuses(sqlite_registry)[0] == "production"


def test_a_version_that_is_not_there_is_not_found_and_what_serves_stays(registry):
    with pytest.raises(NotFound, match="no model version 99"):
        promote_version(registry, 99, PLAIN)
    with pytest.raises(NotPromotable, match="version 99 does not exist"), write_transaction(registry) as connection:
        promote(connection, 99, PLAIN)

    assert statuses(registry) == ["production", "candidate", "candidate", "candidate"]
    assert changes(registry) == [("promote", None, 1)]


def test_a_second_rollback_goes_back_further_until_there_is_nothing(registry):
    for number in (2, 3):
        promote_version(registry, number, PLAIN)

    assert [roll_back(registry, PLAIN).to_version for _ in range(2)] == [2, 1]
    with pytest.raises(NotPromotable, match="no version served before"):
        roll_back(registry, PLAIN)

    assert serving(registry) == 1
    assert changes(registry) == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
    ]


def test_a_rollback_after_a_promotion_that_followed_a_rollback_passes_over_what_was_left(sqlite_registry):
    promote_version(sqlite_registry, 2, PLAIN)
    roll_back(sqlite_registry, PLAIN)
    promote_version(sqlite_registry, 3, PLAIN)

    assert roll_back(sqlite_registry, PLAIN).to_version == 1


def test_before_the_first_promotion_nothing_serves_and_there_is_nothing_to_go_back_to(engine):
    assert serving(engine) is None
    assert list_promotions(engine, limit=10) == []
    with pytest.raises(NotPromotable, match="no version served before"):
        roll_back(engine, PLAIN)


@pytest.mark.parametrize(
    ("steps", "earlier"),
    [
        ([], None),
        ([("promote", 1)], None),
        ([("promote", 1), ("promote", 2)], 1),
        ([("promote", 1), ("promote", 2), ("rollback", 1)], None),
        ([("promote", 1), ("promote", 2), ("promote", 1)], 2),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2)], 1),
        ([("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 3)], 1),
        ([("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 2), ("promote", 3)], 2),
    ],
)
def test_the_version_that_served_before(steps, earlier):
    assert earlier_version(iter(steps)) == earlier


def test_a_damaged_version_is_refused_and_what_serves_stays(sqlite_registry):
    damage(sqlite_registry, 2)

    with pytest.raises(NotPromotable, match="version 2 cannot serve: the artefact's SHA-256"):
        promote_version(sqlite_registry, 2, PLAIN)

    assert serving(sqlite_registry) == 1
    assert changes(sqlite_registry) == [("promote", None, 1)]


def test_a_version_that_this_code_reads_otherwise_is_refused(sqlite_registry):
    with write_transaction(sqlite_registry) as connection:
        this = col(ModelVersion.model_version) == 2
        connection.execute(update(ModelVersion).where(this).values(classes=["DC Fast Charger", "Level 1", "Level 3"]))

    with pytest.raises(NotPromotable, match=r"version 2 cannot serve: .* without Level 3 and with Level 2"):
        promote_version(sqlite_registry, 2, PLAIN)

    assert serving(sqlite_registry) == 1


def test_a_pruned_version_is_refused_and_what_serves_stays(registry):
    assert prune(registry) == [2, 3, 4]

    with pytest.raises(NotPromotable, match=r"version 2 cannot serve: .* was pruned"):
        promote_version(registry, 2, PLAIN)

    assert serving(registry) == 1
    assert changes(registry) == [("promote", None, 1)]


def test_a_version_that_was_pruned_a_moment_ago_is_refused(sqlite_registry):
    prune(sqlite_registry)

    with pytest.raises(NotPromotable), write_transaction(sqlite_registry) as connection:
        promote(connection, 2, PLAIN)

    assert serving(sqlite_registry) == 1


def test_a_rollback_to_a_damaged_version_is_refused_and_another_one_can_be_promoted(sqlite_registry):
    for number in (2, 3):
        promote_version(sqlite_registry, number, PLAIN)
    damage(sqlite_registry, 2)

    with pytest.raises(NotPromotable, match="version 2 cannot serve"):
        roll_back(sqlite_registry, PLAIN)
    assert serving(sqlite_registry) == 3
    assert len(changes(sqlite_registry)) == 3

    assert promote_version(sqlite_registry, 1, PLAIN) == Change(3, 1, changed=True)


def test_a_change_is_undone_with_the_transaction_that_it_is_in(registry):
    with registry.connect() as connection, connection.begin() as transaction:
        promote(connection, 2, PLAIN)
        transaction.rollback()

    assert serving(registry) == 1
    assert changes(registry) == [("promote", None, 1)]


def test_changes_are_listed_newest_first_and_further_back_from_any(sqlite_registry):
    for number in (2, 3, 4):
        promote_version(sqlite_registry, number, PLAIN)

    newest = list_promotions(sqlite_registry, limit=2)
    older = list_promotions(sqlite_registry, limit=2, before=newest[-1]["promotion_id"])

    assert [one["to_version"] for one in (*newest, *older)] == [4, 3, 2, 1]
    assert list_promotions(sqlite_registry, limit=2, before=1) == []


def test_of_many_who_promote_at_once_one_is_in_production_and_each_change_follows_the_one_before(registry):
    found = at_once(12, lambda number: promote_version(registry, 2 + number % 3, Reason(who=f"caller {number}")))

    recorded = [one for one in reversed(list_promotions(registry, limit=100)) if one["who"]]
    made = sorted((one["from_version"], one["to_version"]) for one in recorded)
    assert made == sorted(change[:2] for change in found if change.changed)
    assert len(made) >= 3
    before = 1
    for one in recorded:
        assert one["from_version"] == before != one["to_version"]
        before = one["to_version"]
    assert serving(registry) == before
    assert sorted(statuses(registry)) == ["archived", "archived", "archived", "production"]


def test_of_many_who_roll_back_at_once_each_goes_one_step_or_is_told(registry):
    for number in (2, 3, 4):
        promote_version(registry, number, PLAIN)

    found = at_once(6, lambda _: roll_back(registry, PLAIN))

    went = [change for change in found if isinstance(change, Change)]
    steps = [(4, 3), (3, 2), (2, 1)][: len(went)]
    assert went
    assert sorted(change[:2] for change in went) == sorted(steps)
    assert changes(registry)[4:] == [("rollback", *step) for step in steps]
    assert serving(registry) == steps[-1][1]
    assert statuses(registry).count("production") == 1
