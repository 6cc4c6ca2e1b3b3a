"""The version of the code that trains a model, and the versions of the libraries, for a later comparison."""

import ast
import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zap import __version__

_LIBRARIES = ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy", "joblib")
# The modules of this folder that cannot change the result of a training with given sessions and hyper-parameters, each
# with the reason.
# A module that is not named here is part of the hash, so a new module cannot be forgotten.
NOT_DECIDING = {
    "__init__": "is empty",
    "artefact": "describes and checks a fitted model",
    "baselines": "predicts without a model",
    "code_version": "compares trainings",
    "candidate": "belongs to the search, whose hyper-parameters the version stores",
    "comparison": "compares fitted models",
    "contributions": "explains a fitted model",
    "decision": "says whether a version serves",
    "evaluation": "measures a fitted model",
    "explained_groups": "explains a fitted model",
    "explanation": "explains a fitted model",
    "export": "writes the file of a fitted model",
    "fingerprint": "compares trainings",
    "fits": "belongs to the search, whose hyper-parameters the version stores",
    "folds": "belongs to the search, whose hyper-parameters the version stores",
    "gate": "decides whether a version serves",
    "golden": "stores answers of a fitted model",
    "golden_check": "checks a fitted model",
    "importances": "measures a fitted model",
    "inference": "answers with a fitted model",
    "intervals": "measures a fitted model",
    "leaving_out": "belongs to the search, whose hyper-parameters the version stores",
    "memory": "frees memory",
    "race": "belongs to the search, whose hyper-parameters the version stores",
    "reason_words": "explains a fitted model",
    "reasons": "explains a fitted model",
    "resampling": "measures a fitted model",
    "rungs": "belongs to the search, whose hyper-parameters the version stores",
    "sample": "makes histories",
    "sample_choice": "makes histories",
    "sample_days": "makes histories",
    "sample_drivers": "makes histories",
    "scores": "measures a fitted model",
    "search_result": "belongs to the search, whose hyper-parameters the version stores",
    "search_space": "belongs to the search, whose hyper-parameters the version stores",
    "shap_values": "explains a fitted model",
    "tuning": "searches hyper-parameters, which the version stores",
    "usual_values": "explains a fitted model",
    "verdict": "judges a fitted model",
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that a training uses, and the type of the machine."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}",
    }


@cache
def code_version() -> str:
    """Return the version of zap, with a hash of the modules that decide what is learned.

    Comments, docstrings and the layout of the code do not count. The hash does not depend on the version of Python.
    """
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in NOT_DECIDING:
            code.update(f"{path.stem}: {_code(ast.parse(path.read_bytes()))}\n".encode())
    return f"{__version__}+{code.hexdigest()[:12]}"


def _code(node: Any) -> str:
    """Return a syntax tree as text, without docstrings.

    `ast.dump` is not used, because the empty fields that it shows differ between versions of Python.
    """
    if isinstance(node, list):
        return f"[{','.join(map(_code, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name in node._fields:
        value: Any = getattr(node, name, None)
        if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            value = value[1:]
        if value not in (None, []):
            fields.append(f"{name}={_code(value)}")
    return f"{type(node).__name__}({','.join(fields)})"
