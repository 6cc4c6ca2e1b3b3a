"""Every option of every command says in its help what may be chosen, and what is used without it."""

import inspect
import json
import re

import click
import pytest
from click.testing import CliRunner

import zap
from zap.cli import main, training
from zap.formats.training_options import HYPER_PARAMETERS
from zap.ml import search_space
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history
from zap.ml.tuning import Budget
from zap.monitoring.trials import EPSILON, LONGEST_WEEKS

# It prints nothing but the server's log.
WITHOUT_JSON = {("serve",)}


def commands(group, names=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))
        else:
            yield (*names, name), command


COMMANDS = dict(commands(main))
OPTIONS = [
    pytest.param(names, option, id=f"{' '.join(names)} {option.opts[0]}")
    for names, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option) and not option.hidden
]


def help_of(*names):
    """The help of a command, with each run of spaces as one space."""
    shown = CliRunner().invoke(main, [*names, "--help"], prog_name="zap", env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    return " ".join(shown.stdout.split())


@pytest.mark.parametrize(("names", "option"), OPTIONS)
def test_an_option_names_its_choices_and_its_default(names, option):
    assert option.help, "give the option a help text"
    assert option.help.endswith("."), "end the help text with a full stop"
    if option.is_flag:
        # A flag is off if it is not given, which goes without saying.
        return
    shown = option.get_help_record(click.Context(COMMANDS[names]))
    said = " ".join(shown)
    assert option.required or "[default: " in said or "Default: " in said, "say what is used without this option"
    if isinstance(option.type, click.Choice):
        assert [one for one in option.type.choices if str(one) not in said] == []


@pytest.mark.parametrize("names", COMMANDS)
def test_the_help_fits_80_columns(names):
    help_of(*names)


@pytest.mark.parametrize("names", sorted(set(COMMANDS) - WITHOUT_JSON))
def test_every_command_except_the_server_has_json(names):
    assert "as_json" in {option.name for option in COMMANDS[names].params}


def test_the_defaults_in_help_texts_are_those_of_the_code():
    for name, parameter in inspect.signature(sample_history).parameters.items():
        assert re.search(rf"--{name} [^-]*[Dd]efault: {parameter.default}\b", help_of("sample-history"))
    tune = help_of("tune")
    assert f"including the defaults. Default: {Budget().trials}." in tune
    assert f"always tried. Default: {Budget().minutes:g}." in tune
    tried = help_of("models", "try")
    assert f"is not worse. [default: {EPSILON:g};" in tried
    assert f"in weeks. [default: {LONGEST_WEEKS};" in tried


def test_version():
    shown = CliRunner().invoke(main, ["--version"], prog_name="zap")

    assert (shown.exit_code, shown.stdout) == (0, f"zap, version {zap.__version__}\n")


@pytest.mark.parametrize("command", ["train", "tune"])
def test_the_help_lists_the_hyper_parameters(command):
    shown = help_of(command).split("Hyper-parameters of --set:")[1]
    unset = {name: str(value) for name, value in ChargerTypeModel().get_params().items()}
    if command == "tune":
        unset |= dict.fromkeys(training._SEARCHED, "the search tries several values")
        unset["n_estimators"] = "the best number, which is measured for each set"

    for one in HYPER_PARAMETERS:
        assert f"{one.name} {one.description}: {one.range}. Default: {unset[one.name]}." in shown.replace("- ", "-")


@pytest.mark.parametrize("command", ["train", "tune"])
@pytest.mark.parametrize("asked", [["--set"], ["--set", "help"], ["--set=help"], ["--set", "num_leaves=3", "--set"]])
def test_set_without_a_value_shows_the_hyper_parameters_and_trains_nothing(tmp_path, command, asked):
    database = ["--database-url", f"sqlite:///{tmp_path / 'zap.sqlite'}"]

    table = CliRunner().invoke(main, [command, *database, *asked], env={"COLUMNS": "80"})
    as_json = CliRunner().invoke(main, [command, *database, "--json", *asked])

    assert (table.exit_code, as_json.exit_code) == (0, 0)
    assert not (tmp_path / "zap.sqlite").exists()
    listed = json.loads(as_json.stdout)["hyper_parameters"]
    assert {one["name"]: one["default"] for one in listed} == {one.name: one.example for one in HYPER_PARAMETERS}
    for one in HYPER_PARAMETERS:
        (line,) = [line for line in table.stdout.splitlines() if one.name in line]
        assert one.range in line
        assert f" {one.example} " in line


def test_what_is_no_setting_leads_to_the_hyper_parameters():
    refused = CliRunner().invoke(main, ["train", "--set", "num_leaves"])

    assert refused.exit_code == 2
    assert "'num_leaves' is not NAME=VALUE; --set without a value shows the hyper-parameters" in " ".join(
        refused.stderr.split()
    )


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["database"], "Did you mean 'zap db'?"),
        (["upgrade"], "Did you mean 'zap db upgrade'?"),
        (["serv"], "Did you mean 'zap serve' or 'zap serving'?"),
        (["models", "lst"], "Did you mean 'zap models list'?"),
        (["db", "upgade"], "Did you mean 'zap db upgrade'?"),
        (["xyz"], "No such command 'xyz'."),
    ],
)
def test_an_unknown_command_leads_to_the_nearest_one(typed, hint):
    refused = CliRunner().invoke(main, typed, prog_name="zap", env={"COLUMNS": "200"})

    assert refused.exit_code == 2
    assert f"No such command {typed[-1]!r}" in refused.stderr
    assert hint in refused.stderr
    assert ("Did you mean" in refused.stderr) == ("Did" in hint)


GROUPS = {names[:-1] for names in COMMANDS}


@pytest.mark.parametrize("names", sorted(GROUPS), ids=" ".join)
def test_each_summary_is_whole_and_in_one_line(names):
    shown = CliRunner().invoke(main, [*names, "--help"], prog_name="zap", env={"COLUMNS": "80"}).stdout
    _, listed = shown.split("Commands:\n")

    assert "..." not in listed
    # A summary that does not fit would go on in a line of its own.
    assert [line for line in listed.splitlines() if not re.match(r"  [a-z][a-z-]*  +\S", line)] == []


def test_no_type_of_a_parameter_is_called_a_range():
    types = {option.type.name for command in COMMANDS.values() for option in command.params}
    assert [name for name in types if "range" in name] == []

    refused = CliRunner().invoke(main, ["models", "show", "x"])

    assert "'x' is not a valid whole number." in refused.stderr


def test_the_search_says_which_values_it_chooses():
    assert set(training._SEARCHED) == set(search_space._SPACE)
    shown = help_of("tune")

    assert "newest tuning" not in shown
    assert "Default: the search chooses the value, as listed below." in shown
    assert "Default: 200." not in shown
