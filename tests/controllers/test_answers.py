"""The answers that /docs shows are answers of this server. tests/answers.py asks for them."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import answers
import pytest
from conftest import client_of
from databases import postgresql_database
from described import Document
from pydantic import SecretStr

import zap
from zap.settings import Settings

SHOWN = json.loads(answers.FILE.read_text(encoding="utf-8"))


def each(found):
    for group, by_status in found.items():
        for status, by_kind in by_status.items():
            for kind, by_name in by_kind.items():
                yield from (((group, status, kind, name), value) for name, value in by_name.items())


MANUAL = Path(zap.__file__).parent / "manual"


@pytest.mark.parametrize(
    "page", [MANUAL.parents[1] / "README.md", *(MANUAL / f"{name}.md" for name in ("start", "predicting", "uk"))]
)
def test_the_first_answer_is_that_of_readme_and_the_manual(page):
    shown = SHOWN["predict"]["200"]["application/json"]["a driver of the sample history"]
    rounded = {name: round(share, 3) for name, share in shown["probabilities"].items()}
    replies = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]

    first = next(reply for reply in replies if "probabilities" in reply)
    assert first["prediction_id"] - first["input_id"] == shown["prediction_id"] - shown["input_id"]
    # On one of the pages the reader has asked before.
    ids = {name: first[name] for name in ("input_id", "prediction_id")}
    assert first == shown | ids | {"probabilities": rounded}


def test_they_are_given_again(trained_sqlite, request, tmp_path):
    file = shutil.copy(request.getfixturevalue("_sqlite_at_head"), tmp_path / "empty.sqlite")
    empty = Settings(database_url=f"sqlite:///{file}", models_dir=tmp_path / "empty")
    with closing(sqlite3.connect(trained_sqlite.url.database)) as database, database:
        # The shared version has fewer rounds than the default. The answers are those of a training without options.
        database.execute("UPDATE training_runs SET options = '{}'")
    with client_of(trained_sqlite, raise_server_exceptions=False) as client:
        asked = answers.Answers(client)
        answers.successes(asked)
        found = dict(each(answers.quick_answers(asked, trained_sqlite, empty)))

    shown = dict(each(SHOWN))
    assert asked.wrong == []
    assert [place for place in found if place not in shown] == []
    assert {place: said for place, value in found.items() if (said := answers.unlike(shown[place], value))} == {}


def test_a_right_that_the_role_of_the_database_lacks(trained_sqlite, request, tmp_path):
    with client_of(trained_sqlite) as client:
        asked = answers.Answers(client)
    with postgresql_database(request.getfixturevalue("_postgresql_at_head")) as url:
        found = dict(each(answers.no_right(asked, url, tmp_path / "none")))

    shown = dict(each(SHOWN))
    assert asked.wrong == []
    assert [said for place, value in found.items() for said in answers.unlike(shown[place], value)] == []
    assert [place[3] for place in found] == ["no-right"]
    for operation in ("reportChargingSessions", "listPromotions"):
        assert "403" in asked.routes[operation][2]["responses"]


def test_every_answer_is_shown_and_is_what_the_document_says(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"api_key": SecretStr(answers.KEY)})) as client:
        document = client.get("/openapi.json", headers={"X-API-Key": answers.KEY}).json()
    schemas = Document(document)
    operations = {one["operationId"]: one for methods in document["paths"].values() for one in methods.values()}
    shown = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    where = (operation["operationId"], status, kind)
                    assert content.get("examples"), where
                    for name, example in content["examples"].items():
                        shown.add((status, kind, name))
                        assert schemas.faults(example["value"], content.get("schema", {}), f"{where} {name}") == []

    assert {place[1:] for place, _ in each(SHOWN)} == shown
    for place, value in each(SHOWN):
        if place[0] in operations:
            # An error that many routes answer does not hide the route's own.
            group, status, kind, name = place
            assert operations[group]["responses"][status]["content"][kind]["examples"][name]["value"] == value
