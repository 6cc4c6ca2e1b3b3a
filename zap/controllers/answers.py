"""The answers that /docs shows beside the routes. They were recorded from a server: `tests/answers.py` makes the file.

The file has three levels: the name of an operation (or of a group of operations, below), the status, the media type.
"""

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_suffix(".json")
# Errors that many routes answer in equal words are recorded once for each group.
EVERY, CHANGES, BODIES, KEYS, DATABASE = "every", "changes", "bodies", "keys", "database"


def add_answers(document: dict[str, Any]) -> None:
    """Add the recorded answers to the responses of an OpenAPI document."""
    recorded = json.loads(_FILE.read_bytes()) if _FILE.exists() else {}
    for methods in document["paths"].values():
        for method, operation in methods.items():
            names = (operation["operationId"], *_groups(method, operation))
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    found = [recorded.get(name, {}).get(status, {}).get(kind, {}) for name in names]
                    examples = {name: {"value": value} for some in found for name, value in some.items()}
                    if examples:
                        # A copy, because several responses share one description of their content.
                        response["content"] = {**response["content"], kind: {**content, "examples": examples}}


def _groups(method: str, operation: dict[str, Any]) -> list[str]:
    """Return the groups of recorded errors that an operation may answer."""
    return [
        EVERY,
        *([CHANGES] if method != "get" else []),
        *([BODIES] if method == "post" else []),
        *([KEYS] if "security" in operation else []),
        *([DATABASE] if operation.get("tags") != ["health"] else []),
    ]
