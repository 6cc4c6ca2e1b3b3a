"""The one family of errors: each knows its status, its exit code and how it looks."""

import pytest

from zap import errors
from zap.errors import InvalidRequest, NoModel, ZapError


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


@pytest.mark.parametrize("error", [one for one in family() if one.__module__.startswith(f"{errors.__name__}.")])
def test_every_error_has_a_title_a_status_and_an_exit_code(error):
    assert error.title
    assert 400 <= error.status_code < 600
    assert 1 <= error.exit_code < 126


def test_all_errors_are_imported_from_one_place():
    ours = [one for one in family() if one.__module__.startswith(f"{errors.__name__}.")]

    assert {one.__name__ for one in ours} | {"DOES_NOT_ANSWER"} == set(errors.__all__)
    assert len(ours) > 40


def test_a_bad_request_names_its_fields():
    error = InvalidRequest([{"pointer": "#/a", "detail": "is wrong"}, {"pointer": "#/b", "detail": "is wrong"}])

    assert str(error) == "2 errors: #/a, #/b"
    assert error.problem()["errors"][0] == {"pointer": "#/a", "detail": "is wrong"}
