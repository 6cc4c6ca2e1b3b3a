"""Production: the version that serves in this process, which follows the version in production in the database."""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.versions.last_seen import LastSeen
from zap.db.versions.model_file import ModelFile
from zap.db.versions.model_registry import (
    Version,
    load_version,
    production_version,
    synthetic_sessions,
    verdict_of_version,
)
from zap.db.versions.promotions import Change
from zap.errors import NoModel, VersionReplaced, ZapError
from zap.ml.inference import Predictor
from zap.ml.verdict import sample_in_words, verdict_in_words
from zap.sentences import say

log = structlog.get_logger(__name__)

# How long to wait before a version that could not be loaded is tried again.
RETRY_SECONDS = 60


class Production:
    """Hold the predictor of the version in production. It is replaced in one assignment, so requests need no lock.

    Args:
        engine: on the database.
        model_file: the model file, which is kept up to date.
        serves: whether this process is a server, whose log says which version serves and what is wrong with it.
    """

    def __init__(self, engine: Engine, model_file: Path, *, serves: bool = True) -> None:
        self._engine = engine
        self._serves = serves
        self._file = ModelFile(engine, model_file)
        self._predictor: Predictor | None = None
        # With its SHA-256: a restored backup may have another artefact under the number of a version.
        self._serving: Version | None = None
        # A version that could not be loaded, and why. It is tried again after RETRY_SECONDS, not at each refresh.
        self._refused: tuple[Version, str] | None = None
        self._warning: str | None = None
        self._retry_after = 0.0
        self._refreshing = threading.Lock()
        self._seen = LastSeen()

    @property
    def refused(self) -> str | None:
        """Return why the version in production cannot serve in this process; None if it serves."""
        if self._refused is None:
            return None
        return say("version {number}: {reason}", number=self._refused[0].model_version, reason=self._refused[1])

    @property
    def warning(self) -> str | None:
        """Return what is wrong with the version that serves; None if nothing is.

        A baseline would predict better, or the version was trained on synthetic sessions.
        """
        return self._warning

    @property
    def file_restored(self) -> dict[str, Any] | None:
        """Return when and why the model file was last restored; None if it was not restored."""
        return self._file.restored

    @property
    def predictor(self) -> Predictor:
        """Return the predictor that serves.

        Raises:
            NoModel: nothing was trained yet, or the version in production cannot be loaded.
        """
        if self._predictor is None:
            reason = (
                say("the stored model cannot be used: {reason}", reason=self._refused[1])
                if self._refused
                else say("nothing was trained yet")
            )
            raise NoModel(say("{reason}; train a model with POST /train-model or `zap train`", reason=reason))
        return self._predictor

    def serving(self, version: Version) -> Predictor | None:
        """Return the predictor that serves if it is the predictor of this version."""
        served, predictor = self._serving, self._predictor
        return predictor if served == version and predictor and predictor.model_version == version[0] else None

    def changed(self, change: Callable[..., Change], *arguments: Any) -> Change:
        """Change the version in production of the database, and serve it in this process. Return the change.

        Args:
            change: `promote_version` or `roll_back`.
            arguments: the arguments of `change` after the engine.
        """
        done = change(self._engine, *arguments)
        # The change is committed. If this refresh fails, the watch of production repeats it in a moment.
        with contextlib.suppress(SQLAlchemyError):
            self.refresh()
        return done

    def refresh(self) -> None:
        """Serve the version in production, and keep the model file up to date.

        If the version cannot be loaded, this process goes on serving the earlier version.
        """
        with self._refreshing:
            version, began = self._look()
            if version is None:
                return
            new = self._serving != version
            if not new:
                # The refused version is not in production any more.
                self._refused = None
            elif self._refused and self._refused[0] == version and time.monotonic() < self._retry_after:
                return
            if new:
                try:
                    predictor = Predictor(load_version(self._engine, version), version.model_version)
                except ZapError as error:
                    self._refused = (version, error.message)
                    self._retry_after = time.monotonic() + RETRY_SECONDS
                    if self._serves:
                        log.error(
                            "the production version cannot be loaded",
                            model_version=version.model_version,
                            reason=error.message,
                        )
                    self._note(version, began)
                    return
                warnings = self._warnings(version.model_version)
                self._warning = " ".join(warnings.values()) or None
                self._predictor, self._serving = predictor, version
                self._refused = None
                if self._serves:
                    log.info("serving", model_version=version.model_version)
                    for event, reason in warnings.items():
                        log.warning(event, model_version=version.model_version, reason=reason)
            self._file.keep(version)

    def check_serves(self, model_version: int) -> None:
        """Check that a version may answer: it was in production a moment ago. Look again if the last look is old.

        It blocks while the database answers. A version that answers because the one in production cannot be loaded may
        answer too.

        Raises:
            VersionReplaced: it may have been rolled back.
        """
        if self._seen.may_answer(model_version):
            return
        # A database that does not answer says nothing, so the version may not answer.
        with contextlib.suppress(SQLAlchemyError, ZapError):
            self._look()
        if not self._seen.may_answer(model_version):
            raise VersionReplaced(
                say(
                    "version {number} may not be in production any more, so its answer is not sent; send the request"
                    " again",
                    number=model_version,
                )
            )

    def _look(self) -> tuple[Version | None, float]:
        """Return the version in production, and when the look for it began."""
        began = time.monotonic()
        version = production_version(self._engine)
        self._note(version, began)
        return version, began

    def _note(self, version: Version | None, began: float) -> None:
        if version is not None:
            self._seen.note(version.model_version, began)
        if self._serving is not None and (version is None or (self._refused and self._refused[0] == version)):
            # This process goes on serving the earlier version.
            self._seen.note(self._serving.model_version, began)

    def _warnings(self, model_version: int) -> dict[str, str]:
        """Return what is wrong with a version: the reasons, each by the name of its event in the log."""
        warnings = {}
        judged = verdict_of_version(self._engine, model_version)
        if judged and judged["verdict"] == "worse":
            warnings["a baseline would predict better"] = verdict_in_words(judged)
        if synthetic_sessions(self._engine, model_version):
            warnings["the version was trained on synthetic sessions"] = sample_in_words(model_version)
        return warnings
