"""Servers and workers that are killed under load: no answer that a client has is missing in the log."""

import asyncio
import random

import pytest
from faults.soak import Soak

KILLS = 20


@pytest.mark.long
def test_twenty_kills_lose_no_answer(trained):
    # `make soak SOAK="--kills 100 --minutes 120"` does it for hours.
    soak = Soak(trained, trained.database_url, None, random.Random(1), workers=2, anew=False)

    answers_again = asyncio.run(soak.last(minutes=KILLS * 0.8 / 60, connections=6, kills=KILLS))

    print(dict(soak.faults), dict(soak.statuses), f"{len(soak.acknowledged):,} answers")
    found = soak.found()
    assert {name: n for name, n in found.items() if name != "late"} == {"lost": 0, "doubled": 0, "orphaned": 0}
    assert answers_again
    assert sum(soak.faults.values()) == KILLS
    assert len(soak.faults) == 3
    assert len(soak.acknowledged) > 100
