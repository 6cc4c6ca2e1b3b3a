"""The commands `alarms`: list the alarms, acknowledge an alarm, and send a test message."""

from datetime import UTC, datetime
from typing import Any

import click

from zap.cli.command import (
    DATABASE,
    JSON,
    Group,
    WholeNumber,
    engine_at_head,
    fail,
    options_named,
    print_json,
    read_settings,
)
from zap.errors import AlarmNotDelivered, AlarmStands, InvalidSettings


class _Alarms(Group):
    """A group that lists the alarms if no command is named: `zap alarms --json` is `zap alarms list --json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        listed = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        return super().parse_args(ctx, ["list", *args] if listed and not ctx.resilient_parsing else args)


@click.group(cls=_Alarms)
def alarms() -> None:
    """Show what is wrong, and say who has seen it.

    Without a command, list the standing alarms. The exit code is 30 if an alarm stands, and 0 if none stands.
    """


@alarms.command("list")
@click.option("--all", "every", is_flag=True, help="Also show the alarms that were resolved.")
@click.option(
    "--limit", type=WholeNumber(1, 1000), default=100, show_default=True, help="Show at most this many alarms."
)
@DATABASE
@JSON
def list_command(every: bool, limit: int, database_url: str | None, as_json: bool) -> None:
    """List the standing alarms, newest first. The exit code is 30 if an alarm stands."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.monitoring.alarms import list_alarms, standing_alarms

        found = [_with_advice(row) for row in list_alarms(engine, limit, standing=not every)]
        standing = len(standing_alarms(engine))
    if as_json:
        print_json({"alarms": found})
    else:
        from zap.cli.shown_alarms import print_alarms

        print_alarms(found)
    if standing:
        fail(AlarmStands(f"{standing} alarm{'s stand' if standing > 1 else ' stands'}"), as_json=False)


@alarms.command()
@click.argument("alarm", type=WholeNumber(0, 2**63 - 1))
@click.option("--who", required=True, help="Who has seen the alarm. The name is stored with it.")
@DATABASE
@JSON
def acknowledge(alarm: int, who: str, database_url: str | None, as_json: bool) -> None:
    """Say who has seen an alarm. The alarm stands until its cause is gone."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.monitoring.alarms import acknowledge_alarm
        from zap.formats.acknowledgement import Acknowledgement

        with options_named(as_json=as_json):
            seen_by = Acknowledgement.read({"who": who}).who
        seen = acknowledge_alarm(engine, alarm, seen_by)
    if as_json:
        print_json(_with_advice(seen))
    else:
        click.echo(f"{who} has seen alarm {alarm}")


@alarms.command()
@JSON
def test(as_json: bool) -> None:
    """Post a test message to ZAP_ALARM_URL, and show what comes back."""
    from zap.db.monitoring.alarm_outbox import message_body, new_message_id
    from zap.server.alarm_delivery import receiver_of

    receiver = receiver_of(read_settings())
    if receiver is None:
        raise InvalidSettings("ZAP_ALARM_URL is not set; write the address to which alarms are posted")
    said = {"message": "This is a test: nothing is wrong."}
    reply = receiver.post(new_message_id(), message_body("alarm.test", datetime.now(UTC), said))
    if not reply.accepted:
        raise AlarmNotDelivered(f"{reply.reason} ({receiver.shown})")
    if as_json:
        print_json({"status": "success", "http_status": reply.status, "seconds": round(reply.seconds, 3)})
    else:
        click.echo(f"{receiver.shown} accepted the message: {reply.status}, after {reply.seconds:.2f} s")


def _with_advice(row: dict[str, Any]) -> dict[str, Any]:
    from zap.monitoring.alarm_kinds import advice_for

    return {**row, "advice": advice_for(row["kind"])}
