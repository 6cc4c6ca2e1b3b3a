"""What the command line shows a person of a training, a search, a prediction and the model versions."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Column, Table


def print_report(report: dict[str, Any]) -> None:
    """What a person wants to see of a training."""
    console = _console()
    console.print(report["message"])
    if comparison := report["promotion"]["comparison"]:
        console.print(f"Compared with version {comparison['with_version']}: {report['promotion']['reason']}.")
    scores = Table("", "weighted F1", "macro F1", "log loss", title=f"on the last {report['test_samples']:,} sessions")
    _add_scores(scores, f"model version {report['model_version']}", {**report, "weighted_f1": report["test_f1_score"]})
    for name, baseline in report["baselines"].items():
        _add_scores(scores, f"guessing: {name.replace('_', ' ')}", baseline)
    console.print(scores)
    if windows := report["windows"]:
        over = Table("", "weighted F1", "macro F1", "log loss", "guess", title="over rolling windows")
        for window in windows["each"]:
            best = min(baseline["log_loss"] for baseline in window["baselines"].values())
            _add_scores(over, f"after {window['trained_samples']:,} sessions", window, f"{best:.3f}")
        _add_scores(over, "all", windows, f"{windows['baselines'][windows['best_baseline']]['log_loss']:.3f}")
        console.print(over)
    console.print(_slices(report["windows"] or report))
    console.print(
        f"expected calibration error: {report['calibration']['expected_calibration_error']:.3f};"
        f" hyper-parameters from: {report['hyper_parameters_from']}"
    )
    types = Table("charger type", "precision", "recall", "F1", "sessions")
    for name, row in report["per_class"].items():
        types.add_row(name, *(f"{row[score]:.3f}" for score in ("precision", "recall", "f1")), f"{row['support']:,}")
    console.print(types)
    for kind, counts in report["dropped"].items():
        for name, count in counts.items():
            console.print(f"{kind}: {name}: {count}")
    console.print(f"Note: {report['label_meaning']}.")


def _slices(scores: dict[str, Any]) -> Table:
    slices = Table(
        "drivers with", "sessions", "weighted F1", "log loss", "guess", title="log loss, and the best guess's"
    )
    for group, unit in (("by_earlier_sessions", "earlier"), ("by_types_used", "type(s)")):
        for name, some in scores[group].items():
            if some is not None:
                best = min(baseline["log_loss"] for baseline in some["baselines"].values())
                row = (f"{some['weighted_f1']:.3f}", f"{some['log_loss']:.3f}", f"{best:.3f}")
                slices.add_row(f"{name} {unit}", f"{some['sessions']:,}", *row)
    return slices


def _add_scores(table: Table, name: str, scores: dict[str, Any], *more: str) -> None:
    table.add_row(name, *(f"{scores[score]:.3f}" for score in ("weighted_f1", "macro_f1", "log_loss")), *more)


def print_tuning(found: dict[str, Any]) -> None:
    """What a person wants to see of a search."""
    console = _console()
    if "trials" not in found:
        console.print("Later trainings use the defaults again.")
        return
    table = Table(
        "log loss", "folds", "hyper-parameters", title=f"on {found['folds']} folds of {found['sessions']:,} sessions"
    )
    for trial in sorted(found["trials"], key=lambda trial: (-len(trial["fold_log_losses"]), trial["log_loss"])):
        set_ = ", ".join(f"{name} {value}" for name, value in trial["hyper_parameters"].items())
        table.add_row(f"{trial['log_loss']:.4f}", str(len(trial["fold_log_losses"])), set_ or "the defaults")
    console.print(table)
    console.print(
        f"Tuning {found['tuning']}: log loss {found['log_loss']:.4f}, and {found['default_log_loss']:.4f} with the"
        " defaults. Later trainings use it; `zap tune --forget` ends that."
    )


def print_explained(explained: dict[str, Any]) -> None:
    """What a person wants to see of a prediction."""
    console = _console()
    row = Table(
        "feature", "value", title=f"prediction {explained['prediction_id']}, model version {explained['model_version']}"
    )
    for name, value in explained["features"].items():
        row.add_row(name, "missing" if value is None else f"{value:g}" if isinstance(value, float) else value)
    console.print(row)
    answer = Table("charger type", "probability", "computed again")
    for name, probability in explained["probabilities"].items():
        answer.add_row(name, f"{probability:.6f}", f"{explained['computed_again'][name]:.6f}")
    console.print(answer)
    console.print("Equal to the bit." if explained["equal"] else "Not equal.")


def print_versions(versions: list[dict[str, Any]]) -> None:
    """What a person wants to see of all versions."""
    table = Table("version", Column("status", no_wrap=True), "F1", "log loss", "guess", "beats it", "made", "note")
    for version in versions:
        scores = version["scores"] or {}
        table.add_row(
            str(version["model_version"]),
            version["status"] if version["artefact_bytes"] is not None else f"{version['status']}, pruned",
            _number(scores.get("test_f1_score"), ".3f"),
            _number(scores.get("log_loss"), ".3f"),
            _number(scores.get("best_baseline_log_loss"), ".3f"),
            {True: "yes", False: "no", None: ""}[scores.get("beats_baseline")],
            _minute(version["created_at"]),
            version["note"] or "",
        )
    _console().print(table)


def print_version(version: dict[str, Any]) -> None:
    """What a person wants to see of one version; --json has all of it."""
    console = _console()
    known = Table("", Column(f"version {version['model_version']}", overflow="fold"))
    scores = version["evaluation"] or {}
    rows = {
        "status": version["status"],
        "made": f"{_minute(version['created_at'])}, training run {version['run_id']}",
        "trained on": f"{_number(version['trained_samples'], ',')} sessions,"
        f" {_minute(version['trained_from'])} to {_minute(version['trained_until'])}",
        "weighted F1": _number(scores.get("test_f1_score"), ".3f"),
        "log loss": _number(scores.get("log_loss"), ".3f"),
        "beats guessing": {True: "yes", False: "no", None: ""}[scores.get("beats_baseline")],
        "charger types": ", ".join(version["classes"] or ()),
        "hyper-parameters": ", ".join(f"{name} {value}" for name, value in version["hyper_parameters"].items()),
        "from": version["hyper_parameters_from"] or "",
        "code": version["code_version"] or "",
        "libraries": ", ".join(f"{name} {number}" for name, number in (version["libraries"] or {}).items()),
        "artefact": f"{_number(version['artefact_bytes'], ',') or 'no'} bytes, SHA-256 {version['sha256']}",
        "trees": version["trees_sha256"] or "",
        "rows": version["rows_sha256"] or "",
        "note": version["note"] or "",
    }
    for name, value in rows.items():
        known.add_row(name, value)
    console.print(known)


def print_promotions(promotions: list[dict[str, Any]]) -> None:
    """What a person wants to see of what served when."""
    table = Table("when", "what", "from", "to", "who", "why")
    for one in promotions:
        versions = (str(one[name] or "") for name in ("from_version", "to_version"))
        table.add_row(_minute(one["promoted_at"]), one["action"], *versions, one["who"] or "", one["why"] or "")
    _console().print(table)


def print_reproduction(found: dict[str, Any]) -> None:
    """What a person wants to see of a reproduction."""
    console = _console()
    table = Table("", "then", "now", title=f"version {found['model_version']}, {found['seconds']} s")
    for what in ("trees_sha256", "rows_sha256"):
        table.add_row(what.replace("_sha256", ""), *(str(found[what][when] or "")[:16] for when in ("then", "now")))
    for name, change in found["changed_months"].items():
        table.add_row(f"sessions of {name}", f"{change['then']:,}", f"{change['now']:,}")
    for name, change in {**found["code_version"], **found["libraries"]}.items():
        table.add_row(name, change["then"] or "", change["now"] or "")
    console.print(table)
    console.print("The same trees." if found["reproduced"] else "Not the same trees.")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _console() -> Console:
    # Charger types are data: brackets in them are no markup.
    return Console(markup=False, highlight=False)
