"""zap db upgrade. What it does to each kind of database is in tests/db."""

import json
import shutil

import pytest

from zap.settings import Settings


def test_it_works_and_a_second_time_does_nothing(zap_command, empty_settings):
    first = zap_command("db", "upgrade", settings=empty_settings)
    second = zap_command("db", "upgrade", settings=empty_settings)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "upgraded" in first.stderr
    assert "upgraded" not in second.stderr


def test_an_existing_database_is_adopted_and_the_copy_is_named(zap_command, zapapp_database, tmp_path):
    path = tmp_path / "zapapp.sqlite"
    shutil.copyfile(zapapp_database, path)

    done = zap_command("db", "upgrade", settings=Settings(database_url=f"sqlite:///{path}"))

    assert done.returncode == 0
    (copy,) = tmp_path.glob("*before-zap*")
    assert str(copy) in done.stderr


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("mysql://root:secret@db/zap", 2, "sqlite and postgresql"),
        ("postgresql+psycopg://zap:secret@127.0.0.1:1/zap", 15, "127.0.0.1"),
        ("sqlite:////proc/nowhere/zap.sqlite", 15, "/proc/nowhere"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_without_a_traceback(zap_command, url, code, says):
    done = zap_command("db", "upgrade", "--database-url", url)

    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_file_that_is_no_database_is_told(zap_command, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, " * 100)

    done = zap_command("db", "upgrade", "--database-url", f"sqlite:///{tmp_path / 'letter.txt'}")

    assert done.returncode == 15
    assert "Traceback" not in done.stderr
    assert (tmp_path / "letter.txt").read_text().startswith("Dear Sir")


def test_a_new_file_is_told_with_its_path(zap_command, tmp_path):
    file = tmp_path / "not" / "yet" / "zap.sqlite"

    first = zap_command("db", "upgrade", "--database-url", f"sqlite:///{file}")
    second = zap_command("db", "upgrade", "--database-url", f"sqlite:///{file}", "--json")

    assert first.stderr.startswith(f"made the database {file}\n")
    assert first.stderr.endswith(f"the database sqlite:///{file} has the newest schema\n")
    assert json.loads(second.stdout) == {
        "message": f"the database sqlite:///{file} has the newest schema",
        "steps": [],
    }
    assert "made" not in second.stderr


def test_the_steps_are_in_the_json(zap_command, tmp_path, upgraded):
    file = tmp_path / "zap.sqlite"

    done = zap_command("db", "upgrade", "--json", "--database-url", f"sqlite:///{file}")

    assert json.loads(done.stdout)["steps"] == [f"made the database {file}", *upgraded]


def test_errors_are_in_the_json(zap_command, tmp_path):
    done = zap_command("db", "upgrade", "--json", "--database-url", f"sqlite:///{tmp_path}")

    assert (done.returncode, json.loads(done.stdout)["type"]) == (15, "urn:zap:problem:database-unavailable")
