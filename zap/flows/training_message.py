"""The message of a training's report: its scores, its verdict and its hyper-parameters in sentences."""

from typing import Any

from zap.db.versions.tunings import DEFAULTS
from zap.flows.trained import Trained
from zap.ml.baselines import in_words
from zap.ml.decision import Decision
from zap.ml.verdict import verdict_in_words


def training_message(trained: Trained, decision: Decision) -> str:
    """Return the result of the training and the quality of its model, in sentences."""
    scores, split, history = trained.scores, trained.split, trained.history
    lines = [
        (
            f"Version {trained.model_version} was trained on {split.n_train:,} sessions and"
            f" {'serves now' if decision.promoted else f'stays a candidate: {decision.reason}'}."
        ),
        f"On the last {split.n_test:,} {_beside_baselines(scores, scores['test_f1_score'])}",
    ]
    if windows := scores["windows"]:
        said = _beside_baselines(windows, windows["weighted_f1"])
        several = f"{len(windows['each'])} rolling window{'s' * (len(windows['each']) != 1)}"
        lines.append(f"Over {several} ({windows['test_samples']:,} sessions) {said}")
        if seen := windows["test_samples"] - windows["judged"]["sessions"]:
            lines.append(
                f"The search for hyper-parameters has seen {seen:,} of these sessions: their scores are too good, and"
                " they do not decide whether the model beats the baselines."
            )
    if unseen := scores["unseen_type_sessions"]:
        lines.append(f"{unseen:,} of the last sessions have charger types that are not in the training sessions.")
    if said := split.left_out.in_words():
        lines.append(said)
    if seen := trained.seen_by_search:
        lines.append(
            f"The search for hyper-parameters has seen {seen:,} of the {split.n_test:,} test sessions:"
            " these scores are too good."
        )
    lines += [verdict_in_words(scores["judged"]), _hyper_parameters_in_words(trained)]
    if left_out := trained.model.left_out:
        lines.append(f"Its trees do not use these groups of columns: {', '.join(left_out)}.")
    if said := trained.reporting.in_words(trained.asked_before):
        lines.append(said)
    if history.synthetic_sessions:
        lines.append(
            f"{history.synthetic_sessions:,} of {len(history.frame):,} sessions are synthetic (zap sample-history):"
            " these scores say nothing about real drivers."
        )
    return " ".join(lines)


def _hyper_parameters_in_words(trained: Trained) -> str:
    """Return a sentence on the source of the hyper-parameters, and on what would improve the model."""
    chosen = trained.chosen
    if trained.model.cold_weight_ == 0 and not trained.scores["judged"].get("past_known", True):
        return (
            "No driver in the test sessions has an earlier session, and the trees are not used for such drivers: every"
            " prediction is the usual mix of types. More sessions of each driver would help; a search would not."
        )
    if chosen.source.startswith(DEFAULTS):
        return (
            "Its hyper-parameters were not searched on this history. A search usually helps:"
            ' zap train --tune, or {"tune": true} to POST /train-model.'
        )
    found_on = "" if chosen.sessions is None else f", found on {chosen.sessions:,} sessions"
    return f"Its hyper-parameters are from {chosen.source}{found_on}."


def _beside_baselines(scores: dict[str, Any], weighted_f1: float) -> str:
    """Return the F1 and the log loss in words, each beside the score of its best baseline."""
    past_known = any(scores["by_earlier_sessions"][name] for name in ("1-4", "5-19", "20+"))
    by_f1, by_loss = (
        (in_words(name, past_known=past_known), scores["baselines"][name])
        for name in (scores["best_baseline_by_f1"], scores["best_baseline"])
    )
    return (
        f"its weighted F1 is {weighted_f1:.3f}, and the best baseline's ({by_f1[0]}) is"
        f" {by_f1[1]['weighted_f1']:.3f}; its log loss is {scores['log_loss']:.3f}, and the best baseline's"
        f" ({by_loss[0]}) is {by_loss[1]['log_loss']:.3f}."
    )
