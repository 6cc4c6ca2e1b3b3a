"""What trainings use: the newest search, or the defaults."""

from zap.db.tunings import DEFAULTS, HyperParameters, add_tuning, tuned_hyper_parameters


def test_without_a_search_the_defaults_are_used(engine):
    assert tuned_hyper_parameters(engine) == HyperParameters({}, DEFAULTS)


def test_the_newest_search_is_used_until_it_is_told_otherwise(engine):
    first = add_tuning(engine, {"num_leaves": 7, "learning_rate": 0.03}, {"log_loss": 0.3})
    assert tuned_hyper_parameters(engine) == HyperParameters(
        {"num_leaves": 7, "learning_rate": 0.03}, f"tuning {first}"
    )

    second = add_tuning(engine, {"num_leaves": 15}, {"log_loss": 0.2})
    assert tuned_hyper_parameters(engine) == HyperParameters({"num_leaves": 15}, f"tuning {second}")

    add_tuning(engine, None, None)
    assert tuned_hyper_parameters(engine) == HyperParameters({}, DEFAULTS)


def test_a_search_that_found_the_defaults_best_is_named_too(engine):
    number = add_tuning(engine, {}, {"log_loss": 0.3})

    assert tuned_hyper_parameters(engine) == HyperParameters({}, f"tuning {number}")
