"""The command `check`: the settings and their surroundings, each finding with a hint."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from zap.cli.command import DATABASE, JSON, Command, fail, print_json, quiet_settings
from zap.errors import CheckFailed, InvalidSettings

if TYPE_CHECKING:
    from zap.checks.finding import Severity

# The worst comes first.
_SEVERITIES: tuple["Severity", ...] = ("error", "warning", "note")


@click.command("check", cls=Command)
@click.option("--strict", is_flag=True, help="End with exit code 55 also if there are only warnings.")
@DATABASE
@JSON
def check_command(strict: bool, database_url: str | None, as_json: bool) -> None:
    """Check the settings and their surroundings.

    Look at the variables, the machine, the folders, the database and the network, before you start a server or while
    it runs. Each finding has an id, which the manual explains (Reference, Findings), and a hint. The exit code is 55 if
    there is an error.
    """
    from zap.checks.all_checks import everything
    from zap.checks.finding import Finding
    from zap.variables import refuse_missed_key

    try:
        settings = quiet_settings(database_url=database_url)
        refuse_missed_key(settings)
        findings = list(everything(settings))
    except InvalidSettings as error:
        hint = "correct it; the manual lists all settings (Reference, Configuration)"
        findings = [Finding("setting-unusable", "", "", error.message, hint)]
    counts = Counter(finding.severity for finding in findings)
    if as_json:
        print_json({"findings": [finding.as_json() for finding in findings], "counts": dict(counts)})
    else:
        for finding in sorted(findings, key=lambda one: _SEVERITIES.index(one.severity)):
            click.echo(f"{finding.severity}  {finding.id}: {finding.message}\n    {finding.hint}")
        click.echo("nothing is wrong" if not findings else _said(counts))
    if counts["error"] or (strict and counts["warning"]):
        fail(CheckFailed(_said(counts)), as_json=False)


def _said(counts: "Counter[Severity]") -> str:
    return ", ".join(
        f"{number} {severity}{'s' * (number != 1)}" for severity in _SEVERITIES if (number := counts[severity])
    )
