"""What trainings use: the newest search, or the defaults."""

from zap.db.engine import write_transaction
from zap.db.versions.tunings import DEFAULTS, HyperParameters, add_tuning, tuned_hyper_parameters


def add(engine, hyper_parameters, evidence):
    with write_transaction(engine) as connection:
        return add_tuning(connection, hyper_parameters, evidence)


def test_without_a_search_the_defaults_are_used(engine):
    assert tuned_hyper_parameters(engine) == HyperParameters({}, DEFAULTS)


def test_the_newest_search_is_used_until_it_is_told_otherwise(engine):
    first = add(engine, {"num_leaves": 7, "learning_rate": 0.03}, {"log_loss": 0.3})
    assert tuned_hyper_parameters(engine) == HyperParameters(
        {"num_leaves": 7, "learning_rate": 0.03}, f"tuning {first}"
    )

    second = add(engine, {"num_leaves": 15}, {"log_loss": 0.2})
    assert tuned_hyper_parameters(engine) == HyperParameters({"num_leaves": 15}, f"tuning {second}")

    add(engine, None, None)
    assert tuned_hyper_parameters(engine) == HyperParameters({}, DEFAULTS)


def test_a_search_that_found_the_defaults_best_is_named_too(engine):
    number = add(engine, {}, {"log_loss": 0.3})

    assert tuned_hyper_parameters(engine) == HyperParameters({}, f"tuning {number}")


def test_a_search_is_stored_with_the_transaction_that_it_is_in(engine):
    with engine.connect() as connection, connection.begin() as transaction:
        add_tuning(connection, {"num_leaves": 7}, {})
        transaction.rollback()

    assert tuned_hyper_parameters(engine) == HyperParameters({}, DEFAULTS)
