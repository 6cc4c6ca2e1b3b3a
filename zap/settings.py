"""Settings, read from ZAP_* (and `.env`) once."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from zap.errors import InvalidSettings


def _supported_url(value: str) -> str:
    try:
        url = make_url(value)
    except ArgumentError:
        raise ValueError("is not a database URL; write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME") from None
    if url.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise ValueError(f"names the driver {url.drivername}; zap supports sqlite and postgresql+psycopg")
    if url.drivername == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ValueError("is a database in memory, which no second process can see; name a file: sqlite:///FILE")
    return value


def _known_zone(value: str | None) -> str | None:
    if value is not None:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is no time zone; write a name such as Europe/London") from None
    return value


class Settings(BaseSettings):
    """What an operator can set. Every field is the environment variable ZAP_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix="ZAP_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Where the history, the requests and the predictions live.
    database_url: Annotated[str, AfterValidator(_supported_url)] = "sqlite:///data/charge_database_alt.sqlite"
    # Where production_model.joblib is exported.
    models_dir: Path = Path("models")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    # Server processes; each holds the model and its own connections.
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    # FULL survives a power cut; NORMAL may lose the last commits in one, and survives a crash of the process.
    sqlite_synchronous: Literal["FULL", "NORMAL", "EXTRA"] = "FULL"
    # When set, every POST must carry it in X-API-Key.
    api_key: SecretStr | None = None
    # The drivers' wall clock: a request's time with an offset is turned into this zone. Default: the machine's.
    timezone: Annotated[str | None, AfterValidator(_known_zone)] = None
    # Threads of one training; part of what makes a training repeatable.
    training_threads: Annotated[int, Field(ge=1, le=256)] = 2
    # Versions that never served keep their bytes while so few newer ones are there; versions that served always do.
    keep_candidates: Annotated[int, Field(ge=0, le=10_000)] = 10
    # The most that one batch of JSON or CSV may have, in rows and in bytes; 16 MiB hold 10,000 rows of 1,600 bytes.
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    batch_bytes: Annotated[int, Field(ge=1, le=2**31 - 1)] = 16 * 2**20
    # "console" for people, "json" for machines, "auto": console on a terminal, else json.
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def url(self) -> URL:
        return make_url(self.database_url)

    @property
    def shown_url(self) -> str:
        """The database URL without its password, for logs and messages."""
        return self.url.render_as_string(hide_password=True)

    @property
    def model_file(self) -> Path:
        return self.models_dir / "production_model.joblib"

    def wall_time(self, moment: datetime) -> datetime:
        """The naive wall time of `moment` where the drivers are; a naive moment is wall time already.

        Raises:
            OverflowError: when the conversion leaves the years 1 to 9999.
        """
        if moment.tzinfo is None:
            return moment
        zone = ZoneInfo(self.timezone) if self.timezone else None
        return moment.astimezone(zone).replace(tzinfo=None)

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for the processes that zap starts."""
        values = self.model_dump(mode="json", exclude_none=True)
        if self.api_key is not None:
            values["api_key"] = self.api_key.get_secret_value()
        return {f"ZAP_{name.upper()}": str(value) for name, value in values.items()}


def read_settings(**overrides: object) -> Settings:
    """The settings of this process; `overrides` (those that are not None) win over the environment.

    Raises:
        InvalidSettings: names each variable that cannot be used and why. It never shows the value of a secret.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        reasons = [
            f"ZAP_{str(one['loc'][0]).upper()} {one['msg'].removeprefix('Value error, ')}" for one in error.errors()
        ]
        raise InvalidSettings("; ".join(reasons)) from None
