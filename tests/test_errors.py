"""The one family of errors: each knows its status, its exit code and how it looks."""

import re
from pathlib import Path

import pytest

import zap
from zap import errors
from zap.errors import CommandError, InvalidRequest, NoModel, ZapError

PROBLEMS = (Path(zap.__file__).parent / "manual" / "reference.md").read_text().split("## Problems")[1].split("\n## ")[0]
# The HTTP status of each problem in the manual; empty if the problem does not occur over HTTP.
STATUSES = dict(re.findall(r"^\| `([a-z-]+)` \| (\d*) ?\|", PROBLEMS, re.MULTILINE))


def family(parent=ZapError):
    return [parent, *(one for child in parent.__subclasses__() for one in family(child))]


def test_it_works():
    problem = NoModel("nothing was trained yet").problem()

    assert problem == {
        "type": "urn:zap:problem:no-model",
        "title": "There is no model yet",
        "status": 503,
        "detail": "nothing was trained yet",
    }


@pytest.mark.parametrize("error", [one for one in family() if one.__module__ == errors.__name__])
def test_every_error_has_a_title_a_status_and_an_exit_code(error):
    assert error.title
    assert 400 <= error.status_code < 600
    assert 1 <= error.exit_code < 126


def test_the_manual_has_the_status_of_each_problem():
    found = {}
    for error in family():
        if error.__module__ == errors.__name__ and error not in {ZapError, CommandError}:
            problem = error([] if "errors" in (error.__init__.__annotations__) else "").problem()
            found[problem["type"].removeprefix("urn:zap:problem:")] = str(problem.get("status", ""))

    assert found == STATUSES


def test_a_bad_request_names_its_fields():
    error = InvalidRequest([{"pointer": "#/a", "detail": "is wrong"}, {"pointer": "#/b", "detail": "is wrong"}])

    assert str(error) == "2 errors: #/a, #/b"
    assert error.problem()["errors"][0] == {"pointer": "#/a", "detail": "is wrong"}
