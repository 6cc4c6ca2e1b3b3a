"""README and the manual: every route, setting, command, table, problem and module stands there, and README is short."""

import json
import re
from pathlib import Path

import click
import pytest

import zap
from zap import errors
from zap.app import create_app
from zap.cli import main
from zap.controllers.openapi import openapi_document
from zap.controllers.request_examples import Known
from zap.db.monitoring.monitor_states import KINDS as MONITORED
from zap.db.tables import SQLModel
from zap.flows.alarms import LOOKS
from zap.monitoring.alarm_kinds import KINDS
from zap.pages.manual_pages import PAGES
from zap.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PACKAGE = Path(zap.__file__).parent
FOLDER = PACKAGE / "manual"
MANUAL = "\n".join((FOLDER / f"{name}.md").read_text() for name in PAGES)
REFERENCE = (FOLDER / "reference.md").read_text()


def commands(group, prefix="zap"):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def routes():
    """Every method and path of the document that zap serves: Litestar's own lacks what is plain ASGI."""
    for path, methods in openapi_document(create_app(Settings()), Known(), "")["paths"].items():
        yield from ((method.upper(), path) for method in methods)


def every_error(error=errors.ZapError):
    for one in error.__subclasses__():
        # Others have names of their own at each time.
        if one.__module__.startswith(f"{errors.__name__}."):
            if one is not errors.CommandError:
                yield one
            yield from every_error(one)


def test_predict_is_among_the_routes():
    assert ("POST", "/predict") in set(routes())


@pytest.mark.parametrize(("method", "path"), list(routes()))
def test_every_route_stands_in_the_manual_with_a_curl(method, path):
    assert f"`{method} {path}`" in REFERENCE
    without_parameter = path.split("{")[0].rstrip("/")
    assert re.search(rf"curl [^\n]*{re.escape(without_parameter)}\b", MANUAL)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_stands_in_the_manual(name):
    assert f"`ZAP_{name.upper()}`" in REFERENCE.split("## Configuration")[1]


@pytest.mark.parametrize(("name", "command"), list(commands(main)))
def test_every_command_stands_in_the_manual_and_has_help(name, command):
    assert f"`{name}" in REFERENCE.split("## Commands")[1]
    assert command.help


@pytest.mark.parametrize("table", list(SQLModel.metadata.tables))
def test_every_table_stands_in_the_manual(table):
    assert f"`{table}`" in REFERENCE.split("## Tables")[1]


def rows_of(section):
    """Return the names in the first column of the tables in a section of the reference."""
    text = REFERENCE.split(f"## {section}\n")[1].split("\n## ")[0]
    return [
        name for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    ]


def test_the_reference_has_nothing_that_zap_does_not_have():
    assert sorted(rows_of("Tables")) == sorted(SQLModel.metadata.tables)
    assert sorted(rows_of("Routes")) == sorted(f"{method} {path}" for method, path in routes())
    known = {" ".join(name.split()[:words]) for name, _ in commands(main) for words in (2, 3)}
    assert [row for row in rows_of("Commands") if re.sub(r" [A-Z].*", "", row) not in known] == []
    assert set(rows_of("Configuration")) == {f"ZAP_{name.upper()}" for name in Settings.model_fields}
    kinds = re.findall(r"^\| `(\w+)` \|", (FOLDER / "alarms.md").read_text(), re.MULTILINE)
    assert set(kinds) == set(KINDS)
    assert set(LOOKS) | set(MONITORED) == set(KINDS)


@pytest.mark.parametrize("module", sorted(path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")))
def test_every_module_stands_in_the_manual(module):
    tree = (FOLDER / "developing.md").read_text().split("## The package")[1]

    assert re.search(rf"^ +{re.escape(module.name)} +\S", tree, re.MULTILINE)


def test_the_tree_of_the_manual_has_each_module_once_in_its_folder():
    tree = (FOLDER / "developing.md").read_text().split("## The package")[1].split("```")[1]
    found, folders = [], []
    for line in tree.strip().splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name]
        if name.endswith(".py") and folders[0] == "zap/":
            found.append("".join(folders))

    modules = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    assert sorted(found) == sorted(map(str, modules))


@pytest.mark.parametrize("error", list(every_error()))
def test_every_problem_stands_in_the_manual_with_its_status_and_exit_code(error):
    problem = error([] if error is errors.InvalidRequest else "").problem()
    name = problem["type"].removeprefix("urn:zap:problem:")
    row = re.search(rf"^\| `{name}` \| *(\d*) *\| *(\d*) *\|", REFERENCE, re.MULTILINE)

    assert row, name
    # Where there is no number, the problem is never seen over HTTP, or on the command line.
    assert row[1] == str(problem.get("status", ""))
    assert row[2] == ("" if error.exit_code == 1 else str(error.exit_code))


def test_the_readme_is_short_and_has_no_benchmark():
    assert len(README.splitlines()) <= 200
    assert "requests/s" not in README


def test_the_links_of_the_readme_lead_to_files():
    linked = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", README)]

    assert [name for name in PAGES if f"zap/manual/{name}.md" not in linked] == []
    assert [target for target in linked if not target.startswith("https://") and not (ROOT / target).exists()] == []


def test_every_page_is_a_file_and_every_file_a_page():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("text", [README, *((FOLDER / f"{name}.md").read_text() for name in PAGES)])
def test_every_reply_that_is_shown_is_json(text):
    for shown in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        json.loads(shown)
