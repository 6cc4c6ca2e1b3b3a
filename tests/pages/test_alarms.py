"""The page Alarms, and what other pages say while an alarm of harm stands."""

import re

import pytest
from monitored import monitor
from trialled import add_copies

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import list_alarms, raise_alarm, resolve_alarm
from zap.db.versions.promotions import promote_version, roll_back
from zap.formats.promotion_reason import Reason

NO = "No: lately its answers are worse than they should be."


@pytest.fixture
def harmed(client):
    """Yield a client of an app whose version 1 does harm; version 2 can serve instead."""
    engine = client.app.state.engine
    add_copies(engine)
    for version in (2, 1):
        promote_version(engine, version, Reason())
    with write_transaction(engine) as connection:
        raise_alarm(connection, "harm", "version 1", "It is <b>worse</b>.", {}, posts=False)
        raise_alarm(connection, "drift", "version 1", "The values differ.", {}, posts=False)
    return client


def acknowledge(client, number, who):
    token = re.search(r'name="token" value="([0-9a-f]+)"', client.get("/pages/alarms").text)[1]
    return client.post(f"/pages/alarms/{number}/acknowledge", data={"token": token, "who": who})


def test_harm_is_the_first_that_the_overview_says(harmed):
    page = harmed.get("/").text

    assert "<title>(2) Overview" in page
    assert NO in page
    assert "Yes: it is better" not in page
    assert '<a href="/pages/models/rollback">roll back to version 2</a>' in page
    # A phone shows one column, in the order of the page.
    assert page.index('id="alarms"') < page.index('id="production"') < page.index('id="verdict"')


def test_the_page_of_harm_leads_to_the_roll_back(harmed):
    monitor(harmed.app.state.engine)

    (card,) = re.findall(r'id="harm".*?</section>', harmed.get("/pages/data").text, re.DOTALL)

    assert '<a class="button" href="/pages/models/rollback">Roll back to version 2</a>' in card
    assert "It is &lt;b&gt;worse&lt;/b&gt;." in card


def test_harm_of_an_earlier_version_is_not_said_about_the_present_one(harmed):
    roll_back(harmed.app.state.engine, Reason())

    assert NO not in harmed.get("/").text
    # Another promotion of version 1 says what happened while it served.
    question = harmed.get("/pages/models/1/promote").text
    assert "While version 1 served, an alarm of harm was raised:" in question


def test_a_refused_name_stands_at_its_alarm(harmed):
    refused = acknowledge(harmed, 1, "  ")

    assert refused.status_code == 422
    (form,) = re.findall(r'<form method="post" action="/pages/alarms/1/acknowledge".*?</form>', refused.text, re.DOTALL)
    assert 'aria-invalid="true"' in form
    assert refused.text.count("aria-invalid") == 1
    assert acknowledge(harmed, 9, "Iryna").status_code == 404
    assert acknowledge(harmed, "x", "Iryna").status_code == 404
    assert harmed.post("/pages/alarms/1/acknowledge", data={"who": "Iryna"}).status_code == 403
    assert [one["acknowledged_by"] for one in list_alarms(harmed.app.state.engine, 9, standing=True)] == [None, None]


def test_past_alarms_stay_in_the_list_with_who_has_seen_them(harmed):
    assert acknowledge(harmed, 1, " Iryna ").status_code == 200
    with write_transaction(harmed.app.state.engine) as connection:
        resolve_alarm(connection, "harm", "version 1", posts=False)

    page = harmed.get("/pages/alarms").text

    standing, _, past = page.partition("Past alarms")
    assert "The values differ." in standing
    assert "worse" not in standing
    assert "It is &lt;b&gt;worse&lt;/b&gt;." in past
    assert "<td>Iryna</td>" in past
