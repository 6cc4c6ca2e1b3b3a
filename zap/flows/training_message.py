"""The message of a training's report: its scores, its verdict and its hyper-parameters in sentences."""

from typing import Any

from zap.db.versions.tunings import DEFAULTS
from zap.flows.trained import Trained
from zap.ml.baselines import in_words
from zap.ml.decision import Decision
from zap.ml.verdict import verdict_in_words
from zap.sentences import say, say_many


def training_message(trained: Trained, decision: Decision) -> str:
    """Return the result of the training and the quality of its model, in sentences."""
    scores, split, history = trained.scores, trained.split, trained.history
    lines = [
        _first_sentence(trained, decision),
        say("On the last {n:,} {said}", n=split.n_test, said=_beside_baselines(scores, scores["test_f1_score"])),
    ]
    if windows := scores["windows"]:
        said = _beside_baselines(windows, windows["weighted_f1"])
        lines.append(
            say_many(
                "Over {n} rolling window ({sessions:,} sessions) {said}",
                "Over {n} rolling windows ({sessions:,} sessions) {said}",
                len(windows["each"]),
                sessions=windows["test_samples"],
                said=said,
            )
        )
        if seen := windows["test_samples"] - windows["judged"]["sessions"]:
            lines.append(
                say(
                    "The search for hyper-parameters has seen {n:,} of these sessions: their scores are too good, and"
                    " they do not decide whether the model beats the baselines.",
                    n=seen,
                )
            )
    if unseen := scores["unseen_type_sessions"]:
        lines.append(
            say("{n:,} of the last sessions have charger types that are not in the training sessions.", n=unseen)
        )
    if said := split.left_out.in_words():
        lines.append(said)
    if seen := trained.seen_by_search:
        lines.append(
            say(
                "The search for hyper-parameters has seen {n:,} of the {all:,} test sessions: these scores are too"
                " good.",
                n=seen,
                all=split.n_test,
            )
        )
    lines += [verdict_in_words(scores["judged"]), _hyper_parameters_in_words(trained)]
    if left_out := trained.model.left_out:
        lines.append(say("Its trees do not use these groups of columns: {groups:s}.", groups=", ".join(left_out)))
    if said := trained.reporting.in_words(trained.asked_before):
        lines.append(said)
    if history.synthetic_sessions:
        lines.append(
            say(
                "{n:,} of {all:,} sessions are synthetic (zap sample-history): these scores say nothing about real"
                " drivers.",
                n=history.synthetic_sessions,
                all=len(history.frame),
            )
        )
    return " ".join(lines)


def _hyper_parameters_in_words(trained: Trained) -> str:
    """Return a sentence on the source of the hyper-parameters, and on what would improve the model."""
    chosen = trained.chosen
    if trained.model.cold_weight_ == 0 and not trained.scores["judged"].get("past_known", True):
        return say(
            "No driver in the test sessions has an earlier session, and the trees are not used for such drivers: every"
            " prediction is the usual mix of types. More sessions of each driver would help; a search would not."
        )
    if chosen.source.startswith(DEFAULTS):
        return say(
            "Its hyper-parameters were not searched on this history. A search usually helps:"
            ' zap train --tune, or {{"tune": true}} to POST /train-model.'
        )
    if chosen.sessions is None:
        return say("Its hyper-parameters are from {source}.", source=chosen.source)
    return say(
        "Its hyper-parameters are from {source}, found on {n:,} sessions.", source=chosen.source, n=chosen.sessions
    )


def _first_sentence(trained: Trained, decision: Decision) -> str:
    number, n = trained.model_version, trained.split.n_train
    if decision.promoted:
        return say("Version {number} was trained on {n:,} sessions and serves now.", number=number, n=n)
    return say(
        "Version {number} was trained on {n:,} sessions and stays a candidate: {reason}.",
        number=number,
        n=n,
        reason=decision.reason,
    )


def _beside_baselines(scores: dict[str, Any], weighted_f1: float) -> str:
    """Return the F1 and the log loss in words, each beside the score of its best baseline."""
    past_known = any(scores["by_earlier_sessions"][name] for name in ("1-4", "5-19", "20+"))
    by_f1, by_loss = scores["best_baseline_by_f1"], scores["best_baseline"]
    return say(
        "its weighted F1 is {f1:.3f}, and the best baseline's ({f1_baseline}) is {best_f1:.3f}; its log loss is"
        " {loss:.3f}, and the best baseline's ({loss_baseline}) is {best_loss:.3f}.",
        f1=weighted_f1,
        f1_baseline=in_words(by_f1, past_known=past_known),
        best_f1=scores["baselines"][by_f1]["weighted_f1"],
        loss=scores["log_loss"],
        loss_baseline=in_words(by_loss, past_known=past_known),
        best_loss=scores["baselines"][by_loss]["log_loss"],
    )
