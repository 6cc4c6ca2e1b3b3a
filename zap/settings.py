"""Settings, read once from the environment variables ZAP_* and from `.env`."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from zap.alarm_address import safe_receiver, usable_secret
from zap.errors import InvalidSettings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# A path prefix, or an empty text.
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)
# A host name, all host names below a domain, or every host name.
_HOST = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII | re.IGNORECASE)
SHORTEST_KEY = 16
_SHORTEST_ERASURE_KEY = 32
# What Kubernetes writes into ZAP_PORT if a Service has the name zap.
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:[0-9]+", re.ASCII)
_DOTENV = Path(".env")
# The most days between two trainings that zap starts by itself.
_MOST_DAYS, _LONGEST_DAYS = 3650, 6
# The fewest and the most days for which requests are kept. After two weeks most outcomes are known and counted: the
# longest horizon is a week, and drift compares weeks.
FEWEST_DAYS, MOST_DAYS = 14, 36_500
# The variables that a training does not get.
_NOT_OF_TRAININGS = frozenset(
    {
        *("ZAP_API_KEY", "ZAP_ALARM_SECRET", "ZAP_ALARM_URL", "ZAP_ERASURE_KEY"),
        *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    }
)
# A message shows at most this much of a value.
_SHOWN_CHARACTERS = 100
# The settings whose values may hold a key or a password.
_SECRET = frozenset({"alarm_secret", "alarm_url", "api_key", "database_url", "erasure_key", "read_database_url"})
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def _supported_url(value: str) -> str:
    try:
        url = make_url(value)
    except ArgumentError:
        raise ValueError("is not a database URL; write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME") from None
    if url.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise ValueError(f"begins with {url.drivername}; zap supports sqlite and postgresql+psycopg")
    if url.drivername == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ValueError("is a database in memory, which other processes cannot see; name a file: sqlite:///FILE")
    return value


def _standby_url(value: str | None, info: ValidationInfo) -> str | None:
    if value is None:
        return None
    database_url = info.data.get("database_url", "")
    if any(not one.startswith("postgresql") for one in (_supported_url(value), database_url)):
        raise ValueError(
            "is for PostgreSQL, because SQLite has no standby; leave it out, or write the URLs of a PostgreSQL server"
            " into ZAP_DATABASE_URL and of its standby into ZAP_READ_DATABASE_URL"
        )
    return value


def _known_zone(value: str | None) -> str | None:
    if value is not None:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone; write a name such as Europe/London") from None
    return value


def _usable_prefix(value: str) -> str:
    prefix = value.rstrip("/")
    if not PREFIX.fullmatch(prefix):
        raise ValueError(f"{value!r} is not a path; write a path such as /zap, of letters, digits and . _ ~ -")
    return prefix


def _known_networks(value: str) -> str:
    for network in _listed(value):
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"holds {network!r}; write addresses or networks such as 127.0.0.1, 10.0.0.0/8") from None
    return value


def _whole_origins(value: str) -> str:
    for origin in _listed(value):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"holds {origin!r}; write origins such as https://app.example.com, without a path")
    return value


def _known_hosts(value: str) -> str:
    for host in _listed(value):
        if not _HOST.fullmatch(host):
            raise ValueError(f"holds {host!r}; write names such as zap.example.com or *.example.com, without a port")
    return value


def _strong_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        key = value.get_secret_value()
        if not key:
            raise ValueError("is empty; leave it out to run zap without a key")
        if len(key) < SHORTEST_KEY:
            raise ValueError(f"has {len(key)} characters; use at least {SHORTEST_KEY}, such as `openssl rand -hex 16`")
        if not key.isprintable() or key != key.strip():
            raise ValueError("starts or ends with a space, or holds a character that no header may have")
    return value


def _long_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < _SHORTEST_ERASURE_KEY:
        fewest = _SHORTEST_ERASURE_KEY
        raise ValueError(f"is too short; use at least {fewest} characters, such as `openssl rand -hex 32`")
    return value


def _known_occasion(value: object) -> object:
    """Return a number of days as a number, and another usable value as it is."""
    if value is None or value == "harm_or_drift":
        return value
    digits = str(value)
    days = int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < _LONGEST_DAYS else 0
    if not 1 <= days <= _MOST_DAYS:
        raise ValueError(f"is {digits[:_SHOWN_CHARACTERS]!r}; write a number of days, 1 to 3650, or harm_or_drift")
    return days


def _listed(value: str) -> list[str]:
    return [one.strip() for one in value.split(",") if one.strip()]


class _Environment(EnvSettingsSource):
    """The environment variables, without a port that Kubernetes has written."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        if SERVICE_LINK.fullmatch(str(values.get("port", ""))):
            del values["port"]
        return values


class Settings(BaseSettings):
    """The settings of an operator. Every field is read from the environment variable ZAP_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix="ZAP_",
        env_file=_DOTENV,
        # Some editors begin a file with the mark of UTF-8, which is no part of the first name.
        env_file_encoding="utf-8-sig",
        env_ignore_empty=False,
        extra="ignore",
        frozen=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - `_Environment` stands for it
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls), dotenv_settings, file_secret_settings

    @model_validator(mode="before")
    @classmethod
    def _ignore_empty(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Leave out empty values, except an empty key: an operator who sets the key wants one."""
        return {name: value for name, value in values.items() if value != "" or name == "api_key"}

    # The database of the history, the requests and the predictions.
    database_url: Annotated[str, AfterValidator(_supported_url)] = "sqlite:///data/charge_database_alt.sqlite"
    # A standby of the PostgreSQL server, from which pages and lists are read.
    read_database_url: Annotated[str | None, AfterValidator(_standby_url)] = None
    # The folder to which production_model.joblib is exported.
    models_dir: Path = Path("models")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    # Server processes; each holds the model and its own connections.
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    # With FULL, commits survive a power cut. With NORMAL they survive a crash of the process, but a power cut may lose
    # the last commits.
    sqlite_synchronous: Literal["FULL", "NORMAL", "EXTRA"] = "FULL"
    # A key with all scopes, beside the keys of the database. If there is any key, every request must carry one, except
    # requests for health and the login page.
    api_key: Annotated[SecretStr | None, AfterValidator(_strong_key)] = None
    # The time zone of the drivers. A time with an offset is converted to it. Default: the time zone of the machine.
    timezone: Annotated[str | None, AfterValidator(_known_zone)] = None
    # How many minutes before plug-in drivers ask. A training uses what all drivers did at that moment, the present.
    asked_before_minutes: Annotated[int, Field(ge=0, le=1440)] = 15
    # Threads of one training; a training is repeatable only with the same number of threads.
    training_threads: Annotated[int, Field(ge=1, le=256)] = 2
    # The limits of a training that a server starts, in bytes and in seconds. They suffice for a million sessions of
    # three charger types with a search in each window, which takes an hour and a half.
    training_memory: Annotated[int, Field(ge=2**28, le=2**50)] = 4 * 2**30
    training_seconds: Annotated[float, Field(ge=1, le=30 * 86_400)] = 14_400
    # A charger type is learned if it has this many sessions, this share of all sessions, and is one of the most
    # frequent types.
    fewest_type_sessions: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    least_type_share: Annotated[float, Field(ge=0, le=0.5)] = 0.005
    most_types: Annotated[int, Field(ge=2, le=1000)] = 20
    # How many of the newest versions that never served keep their artefact. Versions that served always keep it.
    keep_candidates: Annotated[int, Field(ge=0, le=10_000)] = 10
    # After how many days requests are removed, with their answers and outcomes. None: never.
    keep_requests_days: Annotated[int | None, Field(ge=FEWEST_DAYS, le=MOST_DAYS)] = None
    # How many of the newest versions keep the predictions of their training. None: all.
    keep_train_predictions_versions: Annotated[int | None, Field(ge=0, le=10_000)] = None
    # Whether the servers follow the log and the history; otherwise only `zap follow` does.
    follow: bool = True
    # How many hours after the moment asked about a session may start to be the outcome of an answer.
    outcome_hours: Annotated[int, Field(ge=1, le=168)] = 24
    # After how many days the server trains again by itself; "harm_or_drift": when such an alarm stands. None: never.
    retrain_every: Annotated[int | Literal["harm_or_drift"] | None, BeforeValidator(_known_occasion)] = None
    # What such a training does with its version.
    retrain_promote: Literal["trial", "if_better"] = "trial"
    # The most rows and bytes of a batch in JSON or CSV; 16 MiB hold 10,000 rows of 1,600 bytes.
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    batch_bytes: Annotated[int, Field(ge=1, le=2**31 - 1)] = 16 * 2**20
    # The most connections of one server process. When there are more, a new one replaces an idle one, or is refused.
    connections: Annotated[int, Field(ge=1, le=60_000)] = 2000
    # How long a connection may be idle: longer than the 60 s after which load balancers usually close idle connections.
    keep_alive_seconds: Annotated[float, Field(ge=1, le=86_400)] = 75
    # How long the headers of a request may take, and how long a client may send nothing of a body, or of a stream.
    head_seconds: Annotated[float, Field(ge=1, le=86_400)] = 20
    body_seconds: Annotated[float, Field(ge=1, le=86_400)] = 30
    stream_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300
    # How long a client may read nothing of its reply, and how many bytes of all replies may be unread.
    unread_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60
    unread_bytes: Annotated[int, Field(ge=2**20)] = 64 * 2**20
    # The path under which a proxy shows zap, such as /zap.
    root_path: Annotated[str, AfterValidator(_usable_prefix)] = ""
    # Addresses or networks, separated by commas, of proxies whose X-Forwarded-Proto, -Host and -Prefix are used.
    trusted_proxies: Annotated[str, AfterValidator(_known_networks)] = ""
    # Host names under which clients reach zap, separated by commas. IP addresses, localhost and ZAP_HOST always work.
    allowed_hosts: Annotated[str, AfterValidator(_known_hosts)] = ""
    # Origins, separated by commas, of web pages that may send requests to zap from a browser.
    cors_origins: Annotated[str, AfterValidator(_whole_origins)] = ""
    # The secret that signs messages about alarms, and the address to which they are posted. The secret comes first,
    # because the check of the address asks for it.
    alarm_secret: Annotated[SecretStr | None, AfterValidator(usable_secret)] = None
    alarm_url: Annotated[str | None, AfterValidator(safe_receiver)] = None
    # The port that answers GET /metrics without a key, and nothing else, and the address on which it listens. None: the
    # metrics are only on the port of the server, where they need a key.
    metrics_port: Annotated[int | None, Field(ge=1, le=65535)] = None
    metrics_host: str = "127.0.0.1"
    # Whether the log has a line for each request.
    access_log: bool = False
    # Whether traces are sent with OpenTelemetry, as the environment variables OTEL_* say. It needs zap[otel].
    otel: bool = False
    # The key with which the ledger of erasures hashes the ids of erased drivers. Default: a file beside the model file.
    erasure_key: Annotated[SecretStr | None, AfterValidator(_long_key)] = None
    # "console" is for people, and "json" is for machines. "auto" means console on a terminal, and json otherwise.
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def url(self) -> URL:
        """Return the database URL in parts."""
        return make_url(self.database_url)

    @property
    def shown_url(self) -> str:
        """Return the database URL without its password, for logs and messages."""
        return self.url.render_as_string(hide_password=True)

    @property
    def model_file(self) -> Path:
        """Return the path of the model file of production."""
        return self.models_dir / "production_model.joblib"

    @property
    def shown_model_file(self) -> str:
        """Return the model file's name and folder, for replies, which do not show the paths of the machine."""
        return "/".join(self.model_file.parts[-2:])

    @property
    def trusted_networks(self) -> list[IPv4Network | IPv6Network]:
        """Return the networks of `trusted_proxies`."""
        return [ip_network(one) for one in _listed(self.trusted_proxies)]

    @property
    def host_names(self) -> frozenset[str]:
        """Return the host names of this server, in small letters."""
        return frozenset(one.lower() for one in ("localhost", self.host, *_listed(self.allowed_hosts)))

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Return the origins of `cors_origins`, in small letters as browsers send them."""
        return frozenset(one.lower() for one in _listed(self.cors_origins))

    @property
    def horizon(self) -> timedelta:
        """Return how long after the moment asked about a session may start to be the outcome of an answer."""
        return timedelta(hours=self.outcome_hours)

    def wall_time(self, moment: datetime) -> datetime:
        """Return `moment` as naive wall time in the drivers' time zone. A naive moment is already wall time.

        Raises:
            OverflowError: the wall time is outside the years 1 to 9999.
        """
        if moment.tzinfo is None:
            return moment
        zone = ZoneInfo(self.timezone) if self.timezone else None
        return moment.astimezone(zone).replace(tzinfo=None)

    def wall_now(self) -> datetime:
        """Return the current moment as wall time in ZAP_TIMEZONE."""
        return self.wall_time(datetime.now(UTC))

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables, for server processes."""
        values = self.model_dump(mode="json", exclude_none=True)
        for name, secret in (
            ("api_key", self.api_key),
            ("alarm_secret", self.alarm_secret),
            ("erasure_key", self.erasure_key),
        ):
            if secret is not None:
                values[name] = secret.get_secret_value()
        return {f"ZAP_{name.upper()}": str(value) for name, value in values.items()}

    def training_environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a training: the environment of this process and these settings, without secrets.

        A training answers no requests and posts no alarms, and it reads data from outside.

        Args:
            own: the environment of this process.
        """
        whole = {**own, **self.environment()}
        return {name: value for name, value in whole.items() if name.upper() not in _NOT_OF_TRAININGS}


def read_settings(**overrides: object) -> Settings:
    """Return the settings of this process. An override that is not None replaces the environment's value.

    Raises:
        InvalidSettings: variables have wrong values, or `.env` is not a text in UTF-8. It names each variable and the
            reason, but no secret value.
    """
    _check_dotenv()
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        raise InvalidSettings("; ".join(_said(one) for one in error.errors())) from None


def _said(error: "ErrorDetails") -> str:
    """Return which setting is wrong, its value, and what zap accepts. Values that may be secrets are not shown."""
    name = str(error["loc"][0])
    if error["type"] == "value_error":
        # The error of this check already has the value, unless the value may be a secret.
        return f"ZAP_{name.upper()} {error['msg'].removeprefix('Value error, ')}"
    shown = "" if name in _SECRET else f" is {str(error['input'])[:_SHOWN_CHARACTERS]!r};"
    return f"ZAP_{name.upper()}{shown} zap accepts {_accepted(Settings.model_fields[name])}"


def _accepted(field: FieldInfo) -> str:
    """Return in words which values a setting without its own check may have."""
    if get_origin(field.annotation) is Literal:
        return f"one of {', '.join(get_args(field.annotation))}"
    if field.annotation is bool:
        return "true or false"
    # A setting that may be left out has the types of both, such as `int | None`.
    types = get_args(field.annotation) or (field.annotation,)
    kind = "a whole number" if int in types else "a number" if float in types else "a text"
    lowest, highest = (
        next((getattr(one, bound) for one in field.metadata if hasattr(one, bound)), None) for bound in ("ge", "le")
    )
    if highest is not None:
        return f"{kind} from {lowest} to {highest}"
    return kind if lowest is None else f"{kind} of at least {lowest}"


def service_link() -> str | None:
    """Return the value of ZAP_PORT if Kubernetes has written it, so that zap ignores it; otherwise None."""
    link = os.environ.get("ZAP_PORT", "")
    return link if SERVICE_LINK.fullmatch(link) else None


def _check_dotenv() -> None:
    """Raise InvalidSettings if `.env` is there and is not a text in UTF-8."""
    try:
        content = _DOTENV.read_bytes() if _DOTENV.is_file() else b""
    except OSError as error:
        raise InvalidSettings(f"{_DOTENV} cannot be read: {error.strerror}") from None
    try:
        content.decode()
        place = content.find(b"\0")
    except UnicodeDecodeError as error:
        place = error.start
    if place >= 0:
        line = content.count(b"\n", 0, place) + 1
        raise InvalidSettings(
            f"{_DOTENV} is not a text in UTF-8: line {line} has the byte {content[place]:#04x}; save the file as UTF-8"
        )
