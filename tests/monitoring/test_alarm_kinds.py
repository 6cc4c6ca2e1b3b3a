"""The kinds of alarms are in the manual, in the words of the messages."""

from pathlib import Path

import pytest

import zap
from zap.monitoring.alarm_kinds import KINDS, advice_for

PAGE = (Path(zap.__file__).parent / "manual" / "alarms.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_manual_says_what_it_means_and_what_to_do(kind):
    assert f"| `{kind}` | {KINDS[kind].meaning} | {KINDS[kind].advice} |" in PAGE
    assert KINDS[kind].meaning.endswith(".")
    assert KINDS[kind].advice.endswith(".")


def test_a_kind_of_a_newer_zap_has_no_advice():
    assert advice_for("of a newer zap") == ""
    assert advice_for("harm") == KINDS["harm"].advice
