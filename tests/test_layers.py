"""Imports point down only, and nothing happens at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import zap

PACKAGE = Path(zap.__file__).parent
# Lowest first; a module may import its own layer and those before it.
LAYERS = [
    ("zap.sentences",),
    ("zap.errors", "zap.actor", "zap.scopes"),
    (
        "zap.settings",
        "zap.alarm_address",
        "zap.variables",
        "zap.progress",
        "zap.public",
        "zap.browsers",
        "zap.standard_error",
    ),
    ("zap.logs", "zap.threads"),
    ("zap.ml",),
    ("zap.monitoring",),
    ("zap.formats",),
    ("zap.db",),
    ("zap.flows", "zap.server"),
    ("zap.checks",),
    ("zap.controllers", "zap.pages"),
    ("zap.app",),
    ("zap.cli",),
    ("zap.__main__",),
]
# What does no I/O.
PURE = ("zap.ml", "zap.monitoring", "zap.formats")
MODULES = {
    ".".join(["zap", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def layer(module):
    for height, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return height
    return pytest.fail(f"{module} has no layer; add it to LAYERS")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{name.name}" for name in node.names))
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"zap"}))
def test_imports_point_down(module):
    used = {name for name in imports(MODULES[module]) if name in MODULES and name != "zap"}

    assert [name for name in used if layer(name) > layer(module)] == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(PURE)))
def test_ml_monitoring_and_formats_know_no_server_no_session_and_no_settings(module):
    foreign = ("litestar", "sqlmodel", "sqlalchemy", "uvicorn", "zap.settings", "zap.db")

    assert [name for name in imports(MODULES[module]) if name.startswith(foreign)] == []


@pytest.mark.parametrize("room", [path for path in PACKAGE.rglob("*") if path.is_dir() and any(path.glob("*.py"))])
def test_every_room_says_what_is_in_it(room):
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text()))


@pytest.mark.parametrize(("room", "other"), [("zap.pages", "zap.controllers"), ("zap.controllers", "zap.pages")])
def test_pages_and_controllers_do_not_import_each_other(room, other):
    inside = [module for module in MODULES if module.startswith(room)]

    assert inside
    assert [(module, name) for module in inside for name in imports(MODULES[module]) if name.startswith(other)] == []


def test_importing_the_app_makes_no_file_and_opens_no_connection(tmp_path):
    code = (
        "import sys\n"
        "forbidden = ('socket.connect', 'sqlite3.connect')\n"
        "sys.addaudithook(lambda name, _: sys.exit(7) if name in forbidden else None)\n"
        "import zap.app"
    )

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)

    assert list(tmp_path.iterdir()) == []


def test_help_loads_nothing_heavy():
    heavy = {"lightgbm", "pandas", "sklearn", "sqlalchemy", "litestar", "rich"}
    code = f"import sys, zap.cli; print(*sorted({heavy} & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.split() == []


def test_what_serves_imports_neither_pandas_nor_scikit_learn():
    # LightGBM imports both if they are installed, but no module of zap that answers a request does.
    code = "import sys, zap.app; print(*(name for name in sys.modules if name.startswith('zap')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    heavy = {"pandas", "sklearn", "joblib", "pyarrow"}
    assert "zap.controllers.prediction" in loaded
    assert [
        (module, name)
        for module in loaded
        if module in MODULES
        for name in imports(MODULES[module])
        if name.partition(".")[0] in heavy
    ] == []
