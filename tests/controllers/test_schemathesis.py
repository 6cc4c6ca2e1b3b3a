"""schemathesis asks a server whatever the OpenAPI document allows and forbids, and finds no disagreement."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

TESTS = Path(__file__).resolve().parents[1]
# More by hand: ZAP_TEST_EXAMPLES=300.
FEW = "3"
EXAMPLES = os.environ.get("ZAP_TEST_EXAMPLES", FEW)
KEY = "a key of the tests"


@pytest.mark.parametrize("key", [None, KEY])
def test_the_document_and_the_server_agree(serve, trained_sqlite, tmp_path, key):
    if key:
        trained_sqlite = trained_sqlite.model_copy(update={"api_key": SecretStr(key)})
    server = serve(trained_sqlite).wait()
    # With a key only the checks of access are new, so the phases with few requests are enough.
    phases = "examples,fuzzing" if key and EXAMPLES == FEW else "examples,coverage,fuzzing,stateful"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(TESTS / "openapi_hooks.toml"), "run"),
            *(f"{server.url}/openapi.json", "--no-color", "--max-examples", EXAMPLES, "--phases", phases),
            *(("--header", f"X-API-Key: {key}") if key else ()),
            # The rows of a batch are the bodies of /predict, and many ways to be wrong: they are left to more examples.
            *(("--exclude-operation-id", "predictBatch") if EXAMPLES == FEW else ()),
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
