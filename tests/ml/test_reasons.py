"""Reasons in words: true values and usual values, at most four, and nothing said of causes."""

import re

import numpy as np
import pytest
from histories import raw_sample

from zap.ml.explained_groups import EXPLAINED_GROUPS, explained_group
from zap.ml.explanation import Explainer, Explanation, Part
from zap.ml.fitted import computed_columns
from zap.ml.history import clean_history
from zap.ml.inference import Predictor
from zap.ml.reason_words import COUNTS, COUNTS_AT_TIME, Row, number
from zap.ml.reasons import in_words, reasons
from zap.ml.sample import sample_history
from zap.ml.training import fit_and_predict, split_by_time
from zap.ml.usual_values import UsualValues, usual_values

TYPES = ("DC", "L1", "L2")


@pytest.fixture(scope="module")
def known():
    """Return a split, its matrix of test rows, the predictor of a model, and the usual values of its version."""
    split = split_by_time(clean_history(raw_sample(sample_history(seed=5, drivers=30, months=4))))
    model, _ = fit_and_predict(split, {"n_estimators": 15}, n_jobs=1)
    predictor = Predictor(model.fitted(), 1)
    stored = usual_values(split.matrix[split.trained], model.columns_, model.contract_["categories"])
    return (
        split,
        model.matrix(split.test, split.test_past),
        predictor,
        UsualValues.of(Explainer.of(predictor).mix, stored),
    )


def told(known, place, usual=None):
    _, matrix, predictor, own = known
    features = matrix[place].astype("<f8").tobytes()
    found = Explainer.of(predictor).explain(features, predictor.explain(features, {})["computed_again"])
    row = Row(predictor.row(features), predictor.types, predictor.contract["categories"], usual or own)
    return found, reasons(found, row)


def row(usual=None, **values):
    """Return a row of a driver with 20 sessions, in which only these values and the driver's shares are known."""
    numbers = dict.fromkeys(computed_columns(TYPES), np.nan) | {"hour": 19.5, "weekday": 1.0, "sessions": 20.0}
    mix = {"DC": 0.2, "L1": 0.3, "L2": 0.5}
    numbers |= {f"{name}[{type_}]": mix[type_] for type_ in mix for name in ("share", "share_day_kind")}
    categories = {"user_type": ["Commuter", "Casual Driver"], "vehicle_model": ["Leaf"]}
    return Row(numbers | values, TYPES, categories, usual or UsualValues(mix, {}, {}))


def test_it_works(known):
    """Check that the largest groups are the reasons, and that each favours the type of its sign."""
    _, matrix, _, _ = known
    texts = set()
    for place in range(0, len(matrix), 5):
        found, said = told(known, place)
        assert 1 <= len(said) <= 4
        largest = sorted(found.groups, key=lambda name: -abs(found.groups[name]))
        assert [one.group for one in said] == largest[: len(said)]
        for one in said:
            assert one.favours == (found.predicted if one.contribution > 0 else found.runner_up)
            assert one.contribution == found.groups[one.group]
            assert one.text.startswith(f"For {one.favours}: ")
            assert one.value in one.text or one.group in {"habit", "last_sessions", "time", "usual_mix"}
            assert one.usual is None or one.text.endswith(f" (usual: {one.usual})")
        texts |= {one.text for one in said}
    assert not [text for text in texts if re.search(r"because|nan|None|\[|\binf\b", text, re.IGNORECASE)]
    assert len(texts) > 20


def test_the_counts_of_a_driver_are_those_of_the_history(known):
    """Check that the sentence has the true numbers of sessions, although the row has smoothed shares."""
    split, matrix, predictor, usual = known
    frame, start = split.frame, split.frame["charging_start_time"]
    seen = 0
    for place in range(0, len(matrix), 3):
        session = split.test.iloc[place]
        at = session["charging_start_time"]
        own = frame[(frame["user_id"] == session["user_id"]) & (start < at)]
        values = predictor.row(matrix[place].astype("<f8").tobytes())
        assert values["sessions"] == len(own)
        said = Row(values, predictor.types, predictor.contract["categories"], usual)
        at_time = own[own["charging_start_time"].dt.hour // 6 == at.hour // 6]
        for column, expected in (("sessions", own), ("share_near[Level 2]", at_time)):
            if len(expected) < 2:
                continue
            for favoured, other in (("Level 1", "Level 2"), ("Level 2", "Level 1")):
                words = said.words(column, favoured, other)
                type_ = re.search(r"used (.+)$", words.said)[1]
                used = (expected["charger_type"] == type_).sum()
                assert words.value == f"{used} of {len(expected)}"
                assert f"{used} of the driver's {len(expected)} earlier sessions" in words.said
                seen += 1
    assert seen > 50


def test_every_column_has_words_also_if_it_is_missing():
    for column in computed_columns(TYPES):
        type_ = re.search(r"\[(.+)\]", column)
        for said in (row(), row(**{column: 1.0})):
            words = said.words(column, "L1", "L2")
            assert words.said
            assert "nan" not in words.said
            assert "because" not in words.said
            name = column.partition("[")[0]
            if type_ and name not in {*COUNTS, *COUNTS_AT_TIME, "share_day_kind"}:
                assert type_[1] in words.said


@pytest.mark.parametrize(
    ("column", "values", "said", "usual"),
    [
        ("state_of_charge_start", {"state_of_charge_start": 12.34}, "the charge left in the battery is 12 %", "46 %"),
        ("state_of_charge_start", {}, "the charge left in the battery is not known", "46 %"),
        ("hour", {"hour": 18.52}, "the session starts between 18:00 and 24:00", "40 % of all sessions"),
        ("weekday", {"weekday": 6.0}, "the session starts on a Sunday", "9.5 % of all sessions"),
        ("user_type", {"user_type": 1.0}, "the user type is Casual Driver", "25 % of all sessions"),
        ("user_type", {}, "the user type is not known", None),
        ("vehicle_model", {"vehicle_model": 0.0}, "the vehicle model is Leaf", None),
        ("last_type", {"last_type": 2.0, "same_type_in_a_row": 5.0}, "the driver's last 5 sessions used L2",
         "50 % of all sessions"),
        ("last_type", {"last_type": -1.0, "same_type_in_a_row": 1.0}, "the driver's last session used another type",
         None),
        ("share_near[L2]", {"sessions_time_of_day": 16.0, "share_time_of_day[L2]": (14 + 0.5) / 17},
         "14 of the driver's 16 earlier sessions between 18:00 and 24:00 used L2", "50 % of all sessions"),
        ("share_near[L2]", {"sessions_time_of_day": 1.0, "share_time_of_day[L2]": 1.5 / 2},
         "the driver's only earlier session between 18:00 and 24:00 used L2", "50 % of all sessions"),
        ("share_day_kind[L2]", {"share_day_kind[L2]": 0.62, "weekday": 5.0},
         "about 62 % of the driver's sessions on weekends used L2", "50 % of all sessions"),
        ("sessions_of_type[L2]", {"sessions_of_type[L2]": 13.0},
         "13 of the driver's 20 earlier sessions used L2", "50 % of all sessions"),
        ("share_recent[L2]", {"share_recent[L2]": 0.8},
         "the share of L2 in the driver's recent sessions is 80 %", "50 %"),
        ("open[L2]", {"open[L2]": 3.0}, "the number of sessions with L2 that are open now is 3", None),
        ("mix_week[L2]", {"mix_week[L2]": 0.61},
         "the share of L2 in the sessions of all drivers in the last seven days is 61 %", "50 %"),
    ],
)  # fmt: skip
def test_a_column_in_words(column, values, said, usual):
    shares = {"quarter_of_day": {"3": 0.4}, "weekday": {"6": 0.095}, "user_type": {"Casual Driver": 0.25}}
    own = UsualValues({"DC": 0.2, "L1": 0.3, "L2": 0.5}, {"state_of_charge_start": 46.0}, shares)

    found = row(own, **values).words(column, "L2", "L1")

    assert (found.said, found.usual) == (said, usual)


def test_a_low_share_of_the_other_type_is_said_instead():
    found = row(**{"share[L2]": 0.4, "share[L1]": 0.1, "sessions_of_type[L1]": 1.0, "sessions_of_type[L2]": 8.0}).words(
        "sessions_of_type[L2]", "L2", "L1"
    )

    assert found.said == "1 of the driver's 20 earlier sessions used L1"
    assert found.usual == "30 % of all sessions"


def test_a_version_without_usual_values_leaves_them_out(known):
    """Take a version of an older zap, which knows only the usual mix."""
    _, matrix, predictor, _ = known
    older = UsualValues.of(Explainer.of(predictor).mix, None)
    said = [one for place in range(0, len(matrix), 7) for one in told(known, place, older)[1]]

    assert {one.usual for one in said if one.group in {"time", "charge_and_distance", "weather", "vehicle"}} == {None}
    assert all(one.usual for one in said if one.group == "habit")


PARTS = (Part("trees", 0.25, 1.0, {}), Part("usual_mix", 0.75, 2.0, {}))
NEW = Explanation("L2", "L1", 1.5, dict.fromkeys(EXPLAINED_GROUPS, 0.0), 0.0, PARTS, {}, True)


def test_for_a_new_driver_the_words_say_what_was_answered_and_how_much_the_trees_weigh():
    assert "the usual mix of charger types was answered with the weight 75 %, and the trees weigh 25 %" in in_words(NEW)
    assert "from the trees alone" in in_words(NEW)
    none = NEW._replace(parts=(PARTS[0]._replace(weight=0.0), PARTS[1]._replace(weight=1.0)))
    assert in_words(none).endswith("the usual mix of charger types was answered. The trees weigh 0 %.")
    whole = NEW._replace(parts=(PARTS[0]._replace(weight=1.0), PARTS[1]._replace(weight=0.0)))
    assert "with the weight 0 %, and the trees weigh 100 %" in in_words(whole)


def test_for_other_drivers_the_words_say_how_much_each_part_weighs():
    blend = NEW._replace(parts=(PARTS[0], Part("logistic", 0.75, 2.0, {})), new_driver=False)

    assert in_words(blend) == ("The trees weigh 25 %, and the logistic regression on the driver's shares weighs 75 %.")
    assert in_words(blend._replace(parts=PARTS[:1])) == "The trees alone answered."


def test_a_new_driver_has_no_habit_to_compare():
    for column in ("sessions", "share_near[L2]", "share_day_kind[L1]", "sessions_of_type[L2]"):
        assert row(sessions=0.0).words(column, "L2", "L1") == (
            "the driver has no earlier sessions", "no sessions", None
        )  # fmt: skip


def test_a_column_of_a_third_type_is_the_last_choice():
    def said(**columns):
        own = {name.replace("_of_", "[") + "]": added for name, added in columns.items()}
        groups = NEW.groups | {"other_drivers": 1.0}
        (found,) = reasons(NEW._replace(groups=groups, columns=own), row(**dict.fromkeys(own, 0.5)))
        return found.text

    assert "the share of L1 in the sessions" in said(mix_day_of_DC=0.9, mix_day_of_L1=0.1)
    assert "the share of DC in the sessions" in said(mix_day_of_DC=1.1, mix_day_of_L1=-0.1)


def test_small_groups_are_no_reasons():
    groups = NEW.groups | {"usual_mix": 0.8, "weather": -0.04, "time": 0.06}
    found = reasons(NEW._replace(groups=groups, columns={"temperature_c": -0.04, "hour": 0.06}), row(hour=3.0))

    assert [(one.group, one.favours) for one in found] == [("usual_mix", "L2"), ("time", "L2")]
    assert found[0].text == "For L2: of all sessions, 50 % used L2 and 30 % used L1"
    assert found[1].text == "For L2: the session starts between 0:00 and 6:00"


def test_the_column_that_adds_the_most_speaks_for_its_group():
    columns = {"state_of_charge_start": -1.5, "distance_driven_km": 0.5}
    found = reasons(
        NEW._replace(groups=NEW.groups | {"charge_and_distance": -1.0}, columns=columns),
        row(state_of_charge_start=5.0, distance_driven_km=300.0),
    )

    assert [one.text for one in found] == ["For L1: the charge left in the battery is 5 %"]
    assert explained_group("state_of_charge_start") == "charge_and_distance"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.34, "%", "0.3 %"), (9.96, "km", "10 km"), (9.94, "km", "9.9 km"), (12345.6, "", "12,346"), (3.0, "", "3"),
     (-4.25, "°C", "-4.2 °C"), (float("inf"), "kW", "very large")],
)  # fmt: skip
def test_a_number_in_words(value, unit, text):
    assert number(value, unit) == text
