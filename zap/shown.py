"""What the command line shows a person of a training, a search and a prediction."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(report: dict[str, Any]) -> None:
    """What a person wants to see of a training."""
    console = _console()
    console.print(report["message"])
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
    slices = Table(
        "drivers with", "sessions", "weighted F1", "log loss", "guess", title="log loss, and the best guess's"
    )
    for group, unit in (("by_earlier_sessions", "earlier"), ("by_types_used", "type(s)")):
        for name, some in (report["windows"] or report)[group].items():
            if some is not None:
                best = min(baseline["log_loss"] for baseline in some["baselines"].values())
                row = (f"{some['weighted_f1']:.3f}", f"{some['log_loss']:.3f}", f"{best:.3f}")
                slices.add_row(f"{name} {unit}", f"{some['sessions']:,}", *row)
    console.print(slices)
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


def _console() -> Console:
    # Charger types are data: brackets in them are no markup.
    return Console(markup=False, highlight=False)
