"""README: every route, setting, command, table and module stands in it."""

import re
from pathlib import Path

import click
import pytest

import zap
from zap import errors
from zap.app import create_app
from zap.cli import main
from zap.db.tables import SQLModel
from zap.settings import Settings

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
PACKAGE = Path(zap.__file__).parent


def commands(group, prefix="zap"):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def routes():
    app = create_app(Settings())
    for path, item in app.openapi_schema.paths.items():
        for method in ("get", "post", "put", "patch", "delete"):
            if getattr(item, method):
                yield method.upper(), path


@pytest.mark.parametrize(("method", "path"), list(routes()))
def test_every_route_stands_in_it_with_a_curl(method, path):
    assert f"`{method} {path}`" in README
    without_parameter = path.split("{")[0].rstrip("/")
    assert re.search(rf"curl [^\n]*{re.escape(without_parameter)}", README)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_stands_in_it(name):
    assert f"`ZAP_{name.upper()}`" in README


@pytest.mark.parametrize(("name", "command"), list(commands(main)))
def test_every_command_stands_in_it_and_has_help(name, command):
    assert f"`{name}" in README
    assert command.help


@pytest.mark.parametrize("table", list(SQLModel.metadata.tables))
def test_every_table_stands_in_it(table):
    assert f"`{table}`" in README


@pytest.mark.parametrize("module", sorted(path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")))
def test_every_module_stands_in_its_tree(module):
    tree = README.split("## The package")[1]

    assert re.search(rf"^ +{re.escape(module.name)} +\S", tree, re.MULTILINE)


def test_every_exit_code_stands_in_it():
    codes = {error.exit_code for error in errors.ZapError.__subclasses__()} - {1}
    listed = README.split("Exit codes:")[1].split("\n\n")[0]

    assert all(re.search(rf"\b{code}\s", listed) for code in codes)
