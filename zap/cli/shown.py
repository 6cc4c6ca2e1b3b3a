"""Tables and texts that the command line prints: trainings, predictions and model versions."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zap.cli.shown_explanation import explanation_table, importances_table, reason_lines
from zap.cli.shown_search import in_words
from zap.cli.tables import console as _console
from zap.cli.tables import number as _number
from zap.cli.tables import text as _text
from zap.ml.estimator import OF_OLDER_VERSIONS

# The drivers of a slice in words, by the number of types in their history.
_TYPES_USED = {"none": "no type used", "one": "one type used", "several": "several types used"}
# The sessions that decide a verdict, in few words for a narrow column. The keys are texts of zap.ml.evaluation, which
# is slow to import.
SHORT = {
    "the last part": "last part",
    "the rolling windows": "windows",
    "the rolling windows, each with a search of its own": "nested windows",
}
# The verdicts in words, which say whether the model beats the baselines. None: the version is from an older zap, which
# compared it with one baseline, by intervals that were too narrow.
VERDICTS = {"better": "yes", "not_shown": "not shown", "worse": "no, worse", None: ""}
_BEATS = "beats baselines"
# The names of the parts of a report.
_PARTS = {"trees": "the trees alone", "logistic": "the logistic regression alone", "blend": "the blend"}

# The widths of the columns of the list of versions before the notes, and of a note that is easy to read beside them.
_NARROW = (5, 10, 13, 13, 15, 10)
_WIDE = (6, 21, 13, 13, 25, 16)
_NOTE_WIDTH = 20
_SCORES = ("weighted F1", "macro F1", "log loss")


def print_report(report: dict[str, Any]) -> None:
    """Print the report of a training."""
    console = _console()
    console.print(report["message"])
    if comparison := report["promotion"]["comparison"]:
        console.print(f"Compared with version {comparison['with_version']}: {report['promotion']['reason']}.")
    last = f"on the last {report['test_samples']:,} sessions"
    scores = Table(_text(""), *map(_number, _SCORES), title=last)
    _add_scores(scores, f"model version {report['model_version']}", {**report, "weighted_f1": report["test_f1_score"]})
    for name, part in _other_parts(report, report["estimator"]):
        _add_scores(scores, name, part)
    if at_plug_in := report["at_plug_in"]:
        _add_scores(scores, "if drivers asked at plug-in", at_plug_in)
    for name, baseline in report["baselines"].items():
        _add_scores(scores, f"baseline: {name.replace('_', ' ')}", baseline)
    console.print(scores)
    console.print(_differences(report["judged"]))
    if windows := report["windows"]:
        over = Table(_text(""), *map(_number, (*_SCORES, "best baseline's log loss")), title=_on_windows(windows))
        for window in windows["each"]:
            best = min(baseline["log_loss"] for baseline in window["baselines"].values())
            _add_scores(over, f"trained on {window['trained_samples']:,} sessions", window, f"{best:.3f}")
        _add_scores(over, "all", windows, f"{windows['baselines'][windows['best_baseline']]['log_loss']:.3f}")
        for name, part in _other_parts(windows, report["estimator"]):
            _add_scores(over, name, part, "")
        console.print(over)
    console.print(_slices(windows or report, _on_windows(windows) if windows else last))
    console.print(
        f"expected calibration error {last}: {report['calibration']['expected_calibration_error']:.3f};"
        f" hyper-parameters from: {report['hyper_parameters_from']};"
        f" drivers ask {report['asked_before_minutes']} minutes before they plug in, and"
        f" {report['reporting']['delay_in_words']}"
    )
    numbers = map(_number, ("precision", "recall", "F1", "sessions"))
    types = Table(_text("charger type"), *numbers, title=f"by charger type, {last}")
    for name, row in report["per_class"].items():
        types.add_row(name, *(f"{row[score]:.3f}" for score in ("precision", "recall", "f1")), f"{row['support']:,}")
    console.print(types)
    for line in (*_dropped(report["dropped"]), *_left_out(report["left_out_types"])):
        console.print(line, markup=False)
    console.print(f"Note: {report['label_meaning']}.")


def _other_parts(scores: dict[str, Any], estimator: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the name and the scores of each part that is not the model itself."""
    own = "trees" if estimator == "lightgbm" else estimator
    for name, part in scores["parts"].items():
        if name != own:
            yield _PARTS[name], part


def _on_windows(windows: dict[str, Any]) -> str:
    """Return in words on which sessions the windows were tested."""
    several = f"{len(windows['each'])} rolling window{'s' * (len(windows['each']) != 1)}"
    return f"on the {windows['test_samples']:,} sessions of {several}"


def _dropped(dropped: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each reason for which the cleaning of the history left out sessions or values."""
    for reason, count in dropped["rows"].items():
        yield f"sessions left out, {reason}: {count:,}"
    for column, reasons in dropped["values"].items():
        for reason, count in reasons.items():
            yield f"values left out, {column} {reason}: {count:,}"
    for sessions, count in dropped["strangers"].items():
        yield f"{sessions}: {count:,}"
    for column, count in dropped["undated"].items():
        yield f"sessions whose {column} at that time is not stored, so that today's {column} is used: {count:,}"


def _left_out(left_out: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each reason for which charger types were not learned."""
    for reason, why in (
        ("too_few_sessions", f"fewer than {left_out['needed_sessions']:,} sessions"),
        ("too_many_types", f"not among the {left_out['most_types']:,} most frequent types"),
    ):
        if (counted := left_out[reason])["types"]:
            yield f"charger types not learned, {why}: {counted['types']:,} with {counted['sessions']:,} sessions"


def _differences(judged: dict[str, Any]) -> Table:
    """Return a table that compares the model with each baseline on the sessions that decide the verdict."""
    table = Table(
        _text("baseline"),
        _number("log loss,\nmodel minus baseline"),
        _number("95 % interval over drivers"),
        title=f"{_BEATS}: {VERDICTS[judged['verdict']]}, on {judged['sessions']:,} sessions ({judged['sessions_of']})",
    )
    for name, one in judged.get("baseline_differences", {}).items():
        interval = one["interval"]
        ends = "too few drivers" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
        table.add_row(name.replace("_", " "), f"{one['log_loss_difference']:+.4f}", ends)
    return table


def _slices(scores: dict[str, Any], sessions: str) -> Table:
    """Return a table of the scores by the past of the drivers.

    Args:
        scores: the scores on some sessions.
        sessions: these sessions in words.
    """
    numbers = ("sessions", "weighted F1", "log loss", "best baseline's log loss")
    slices = Table(_text("drivers with"), *map(_number, numbers), title=f"by drivers' past, {sessions}")
    for group in ("by_earlier_sessions", "by_types_used"):
        for name, some in scores[group].items():
            if some is not None:
                best = min(baseline["log_loss"] for baseline in some["baselines"].values())
                row = (f"{some['weighted_f1']:.3f}", f"{some['log_loss']:.3f}", f"{best:.3f}")
                drivers = f"{name} past sessions" if group == "by_earlier_sessions" else _TYPES_USED[name]
                slices.add_row(drivers, f"{some['sessions']:,}", *row)
    return slices


def _add_scores(table: Table, name: str, scores: dict[str, Any], *more: str) -> None:
    table.add_row(name, *(f"{scores[score]:.3f}" for score in ("weighted_f1", "macro_f1", "log_loss")), *more)


def print_explained(explained: dict[str, Any]) -> None:
    """Print a prediction: its request, its row, its probabilities, and why the model chose the predicted type."""
    console = _console()
    predicted = explained["predicted_class"]
    at = f" of {_minute(explained['request_timestamp'])}" if explained["request_timestamp"] else ""
    console.print(
        f"Prediction {explained['prediction_id']}: {predicted}, by model version {explained['model_version']}, for"
        f" request {explained['input_id']}{at}:"
    )
    console.print(json.dumps(explained["request"], ensure_ascii=False))
    row = Table(_text("feature"), _number("value"), title=f"the features of prediction {explained['prediction_id']}")
    for name, value in explained["features"].items():
        row.add_row(name, "missing" if value is None else f"{value:g}" if isinstance(value, float) else value)
    console.print(row)
    answer = Table(_text("charger type"), _number("probability"), _number("computed again"), _text(""))
    for name, probability in explained["probabilities"].items():
        again = f"{explained['computed_again'][name]:.6f}"
        answer.add_row(name, f"{probability:.6f}", again, "predicted" if name == predicted else "")
    console.print(answer)
    console.print("The probabilities are equal, bit for bit." if explained["equal"] else "The probabilities differ.")
    explanation = explained["explanation"]
    for line in reason_lines(explanation):
        console.print(line)
    console.print(explanation["weights_in_words"])
    console.print(explanation_table(explanation))


def print_versions(versions: list[dict[str, Any]]) -> None:
    """Print a table of versions, with a star at the version in production."""
    console = _console()
    # In the narrow table a version takes two lines of 80 columns, and more only if its note or its status is long.
    wide = console.width >= sum(_WIDE) + _NOTE_WIDTH
    table = _versions_table(_WIDE if wide else _NARROW)
    for version in versions:
        scores = version["scores"] or {}
        serves = version["status"] == "production"
        table.add_row(
            f"{'* ' if serves else ''}{version['model_version']}",
            _status(version, ", " if wide else "\n"),
            *_headline(scores),
            (", " if wide else ",\n").join(
                filter(None, [VERDICTS[scores.get("verdict")], _judged_briefly(scores.get("judged_on"))])
            ),
            _minute(version["created_at"]) if wide else f"{version['created_at']:%Y-%m-%d}",
            version["note"] or "",
            style="bold" if serves else None,
        )
    console.print(table)
    if any(version["status"] == "production" for version in versions):
        console.print("* serves now")
    console.print("in brackets: the score of the best baseline")
    if any(version["synthetic_sessions"] for version in versions):
        console.print("synthetic: trained on the sample, so its scores say nothing about real drivers")


def _versions_table(widths: Sequence[int]) -> Table:
    """Return an empty table of versions. The widths are the widths of all columns except the last."""
    number, status, f1, log_loss, beats, made = widths
    return Table(
        _number("no.", width=number),
        _text("status", width=status),
        _number("F1", width=f1),
        _number("log loss", width=log_loss),
        _text(_BEATS, width=beats),
        _text("made", width=made),
        _text("note"),
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )


def _status(version: dict[str, Any], separator: str) -> str:
    """Return the status of a version, and whether it was pruned or trained on synthetic sessions."""
    pruned = "pruned" if version["artefact_bytes"] is None else ""
    synthetic = "synthetic" if version["synthetic_sessions"] else ""
    return separator.join(filter(None, [version["status"], pruned, synthetic]))


def _headline(scores: dict[str, Any]) -> tuple[str, str]:
    """Return F1 and log loss, each with the best baseline's in brackets."""
    if not scores:
        return "", ""
    return (
        f"{scores['test_f1_score']:.3f} ({scores['best_baseline_f1_score']:.3f})",
        f"{scores['log_loss']:.3f} ({scores['best_baseline_log_loss']:.3f})",
    )


def _judged_briefly(judged: dict[str, Any] | None) -> str:
    """Return in few words which sessions decided a verdict, and their number if a search had seen the others."""
    if judged is None:
        return ""
    return SHORT.get(judged["sessions_of"]) or f"unseen: {judged['sessions']:,}"


def _judged_on(judged: dict[str, Any] | None) -> str:
    return "" if judged is None else f"{judged['sessions']:,}: {judged['sessions_of']}"


def print_version(version: dict[str, Any]) -> None:
    """Print the most important facts about a version; --json prints all of them."""
    console = _console()
    known = Table(_text(""), _text(f"version {version['model_version']}"))
    scores, parameters = version["scores"] or {}, dict(version["hyper_parameters"])
    f1, log_loss = _headline(scores)
    rows = {
        "status": version["status"],
        "made": f"{_minute(version['created_at'])}, training run {version['run_id']}",
        "trained on": f"{_formatted(version['trained_samples'], ',')} sessions,"
        f" {_minute(version['trained_from'])} to {_minute(version['trained_until'])}",
        "synthetic": _synthetic(version["synthetic_sessions"]),
        "weighted F1 (baseline)": f1,
        "log loss (baseline)": log_loss,
        _BEATS: VERDICTS[scores.get("verdict")],
        "judged on": _judged_on(scores.get("judged_on")),
        "charger types": ", ".join(version["classes"] or ()),
        "estimator": parameters.pop("estimator", OF_OLDER_VERSIONS["estimator"]),
        "hyper-parameters": in_words(parameters),
        "from": version["hyper_parameters_from"] or "",
        "code": version["code_version"] or "",
        "libraries": ", ".join(f"{name} {number}" for name, number in (version["libraries"] or {}).items()),
        "artefact": f"{_formatted(version['artefact_bytes'], ',') or 'no'} bytes, SHA-256 {version['sha256']}",
        "model file": f"SHA-256 {version['file_sha256']}" if version["file_sha256"] else "",
        "trees": version["trees_sha256"] or "",
        "rows": version["rows_sha256"] or "",
        "note": version["note"] or "",
    }
    for name, value in rows.items():
        known.add_row(name, value)
    console.print(known)
    if version["importances"]:
        console.print(importances_table(version["importances"]))
    else:
        console.print("The importances of the columns are not known: an older zap trained this version.")


def _synthetic(sessions: int | None) -> str:
    if sessions is None:
        return "not known"
    if not sessions:
        return "no sessions"
    return f"{sessions:,} sessions of the history (zap sample-history): the scores say nothing about real drivers"


def print_promotions(promotions: list[dict[str, Any]]) -> None:
    """Print a table of promotions and rollbacks."""
    table = Table(_text("when"), _text("what"), _number("from"), _number("to"), _text("who"), _text("why"))
    for one in promotions:
        versions = (str(one[name] or "") for name in ("from_version", "to_version"))
        table.add_row(_minute(one["promoted_at"]), one["action"], *versions, one["who"] or "", one["why"] or "")
    _console().print(table)


def print_reproduction(found: dict[str, Any]) -> None:
    """Print how a version that was trained again compares with the stored version."""
    console = _console()
    table = Table(
        _text(""), _number("then"), _number("now"), title=f"version {found['model_version']}, {found['seconds']} s"
    )
    for what in ("trees_sha256", "rows_sha256"):
        table.add_row(what.replace("_sha256", ""), *(str(found[what][when] or "")[:16] for when in ("then", "now")))
    for name, change in found["changed_months"].items():
        table.add_row(f"sessions of {name}", f"{change['then']:,}", f"{change['now']:,}")
    for name, change in {**found["code_version"], **found["libraries"]}.items():
        table.add_row(name, change["then"] or "", change["now"] or "")
    console.print(table)
    console.print("The model is equal." if found["reproduced"] else "The model differs.")


def _formatted(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
