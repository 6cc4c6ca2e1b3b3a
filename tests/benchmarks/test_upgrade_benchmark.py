"""The upgrade of a database that an older zap has made: every row stays, and its server answers meanwhile."""

import subprocess

import pytest
from benchmarks.upgrade import OLDER, TODAY, upgraded
from conftest import absent


@pytest.mark.long
def test_a_database_of_an_older_zap_keeps_every_row_and_serves_meanwhile(empty_database_url, tmp_path):
    if subprocess.run(["git", "-C", TODAY, "cat-file", "-e", f"{OLDER}^{{commit}}"], check=False).returncode:
        absent("the older code")

    found = upgraded(tmp_path, empty_database_url, OLDER, 4000)

    print(found)
    assert found["predictions"] > 4000
    assert found["tables that differ"] == []
    assert found["answers afterwards"] == 200
    assert set(found["replies meanwhile"]) == {"200"}
