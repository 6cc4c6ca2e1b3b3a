"""Errors of trainings and of the history that they read."""

from typing import Self

from zap.errors.family import ZapError
from zap.sentences import phrase, say


class UnusableHistory(ZapError):
    """The history has too few sessions, a single charger type, or missing tables."""

    title = phrase("The history is not enough to train on")
    status_code = 422
    exit_code = 11


class TrainingRunning(ZapError):
    """Another training is running; zap runs one at a time."""

    title = phrase("A training is already running")
    status_code = 409
    exit_code = 9


class TrainingCancelled(ZapError):
    """The training was cancelled by a person or a signal. The version in production is unchanged."""

    title = phrase("The training was cancelled")
    status_code = 409
    exit_code = 22

    @classmethod
    def by_signal(cls, number: int) -> Self:
        """Return the error of a training that a signal ends. Its exit code is the one that shells use for the signal.

        Args:
            number: the number of the signal, such as 2 for Ctrl-C (exit code 130) or 15 for SIGTERM (143).
        """
        error = cls(say("the training was told to stop; the version in production is unchanged"))
        # The exit code is set on the instance, because it depends on the signal.
        error.exit_code = 128 + number  # type: ignore[misc]
        return error


class RunEnded(ZapError):
    """The training run cannot be cancelled because it has already ended."""

    title = phrase("The training has already ended")
    status_code = 409
    exit_code = 23


class TrainingFailed(ZapError):
    """The training ended without a report, because its process was stopped or crashed."""

    title = phrase("The training did not finish")
    exit_code = 10


class TrainingLimited(ZapError):
    """The training needed more memory or time than the settings allow. The version in production is unchanged."""

    title = phrase("The training exceeded its memory or time limit")
    exit_code = 26

    @classmethod
    def of_memory(cls, most_bytes: int) -> Self:
        """Return the error of a training that needed more memory than it may use.

        Args:
            most_bytes: the memory that it may use.
        """
        return cls(
            say(
                "the training needed more than the {most_bytes:,} bytes of memory that it may use"
                " (ZAP_TRAINING_MEMORY); train on fewer sessions (history_from) or fewer charger types, or raise the"
                " setting",
                most_bytes=most_bytes,
            )
        )

    @classmethod
    def of_time(cls, seconds: float) -> Self:
        """Return the error of a training that took longer than it may.

        Args:
            seconds: how long it may take.
        """
        return cls(
            say(
                "the training took longer than the {seconds:,g} seconds that it may take (ZAP_TRAINING_SECONDS);"
                " train on fewer sessions (history_from), leave out windows, nested or tune, or raise the setting",
                seconds=seconds,
            )
        )
