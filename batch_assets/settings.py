"""Where data lives and how much of the machine may be used.

Values come from the defaults below, then ``settings.toml`` in the data home,
then environment variables ``BATCH_ASSETS_<NAME>``; the later one wins.
"""

import difflib
import os
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    ByteSize,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from batch_assets.engines.prices import Prices
from batch_assets.errors import BatchAssetsError

ENV_PREFIX = "BATCH_ASSETS_"
SETTINGS_FILE = "settings.toml"
PATTERNS = {
    "currency": "expected an ISO 4217 code such as EUR",
    "device": "expected auto, cpu, cuda, cuda:1 (or another number), cuda:0,cuda:1 or mps",
    "memory_limit": "expected a size such as 1GB, 512MB or 1.5GiB",
    "embedding_cache_size": "expected a size such as 1GB, 512MB or 1.5GiB",
    "serving_memory": "expected a size such as 1GB, 512MB or 1.5GiB",
    "serving_redis": "expected an address such as redis://127.0.0.1:6379/0, or nothing",
    "dagster_url": "expected an address such as http://127.0.0.1:3000, or nothing",
}
SIZE = r"^\d+(\.\d+)? ?([kKMGT]i?B)$"
MOST_THREADS = 8
MEGABYTES_A_THREAD = 500
HourOfDay = Annotated[int, Field(ge=0, le=23)]


def known_time_zone(name: str) -> str:
    """The name, if it is a time zone's; else ValueError."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Berlin") from None
    return name


def data_home() -> Path:
    """``$BATCH_ASSETS_HOME``, else ``data/`` in the clone, else ``./data``."""
    if configured := os.environ.get(f"{ENV_PREFIX}HOME"):
        return Path(configured).expanduser().absolute()
    clone = Path(__file__).resolve().parent.parent
    return (clone if (clone / "workspace.yaml").exists() else Path.cwd()) / "data"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(MOST_THREADS, len(os.sched_getaffinity(0))))
    return min(MOST_THREADS, os.cpu_count() or 1)


class Settings(BaseSettings):
    """All settings; each is described in ``docs/operations.md``."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    start_date: date = Field(date(2026, 1, 1), description="First daily partition (UTC).")
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] = Field(
        "EUR", description="The one currency that amounts are converted to (ISO 4217)."
    )
    rate_max_age_days: int = Field(
        4, ge=0, description="Days for which an exchange rate stands in for a missing one."
    )
    future_tolerance_days: int = Field(
        1, ge=0, description="Days after its arrival on which a transaction may still happen."
    )
    training_days: int = Field(28, ge=2, description="Days that a first model is trained on.")
    training_seed: int = Field(7, description="Seed of everything random in training.")
    training_weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = Field(
        "sun", description="Day of the week on which a new model is trained."
    )
    comparison_days: int = Field(
        7, ge=1, description="Newest labelled days on which a new model is compared with the live."
    )
    promotion_margin: float = Field(
        0.005, ge=0, le=1, description="Average precision by which a new model has to be better."
    )
    rescore_days: int = Field(
        90, ge=0, description="How many of the newest scored days a newly live model scores again."
    )
    keep_models: int = Field(
        50, ge=1, description="How many candidates and retired versions of the model are kept."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda|cuda:\d+(, ?cuda:\d+)*)$",
        description="auto, cpu, cuda, cuda:1, several such as cuda:0,cuda:1, or mps.",
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="Of matrix products; auto takes bf16 where it is faster and as good."
    )
    gpu_memory_share: float = Field(
        1.0, ge=0.01, le=1, description="Share of a GPU's memory that one run may use."
    )
    workers: int = Field(
        1, ge=1, description="Devices, or processes on the CPU, that one run is spread over."
    )
    embedding_cache: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether rows embedded before are looked up; auto does it where it pays.",
    )
    embedding_cache_size: str = Field(
        "1GB", pattern=SIZE, description="Disk space that the embedding cache may take."
    )
    threads: int = Field(
        default_factory=_usable_cores,
        ge=1,
        description="Threads of DuckDB; by default all cores this process may use, at most 8.",
    )
    memory_limit: str = Field(
        default_factory=lambda values: f"{MEGABYTES_A_THREAD * values.get('threads', 2)}MB",
        pattern=SIZE,
        description="Memory that DuckDB may use before it spills to disk; 500 MB a thread.",
    )
    vector_type: Literal["float32", "float16"] = Field(
        "float32", description="What new tables of embeddings store a number as."
    )
    vector_index: Literal["IVF_FLAT", "IVF_SQ", "IVF_PQ"] = Field(
        "IVF_FLAT", description="Index of the stored embeddings: whole, or compressed."
    )
    schedule_hour: HourOfDay = Field(2, description="Hour at which the nightly job starts.")
    schedule_time_zone: str = Field("UTC", description="Time zone of schedule_hour.")
    catch_up_days: int = Field(
        90, ge=1, description="How many days back the nightly job looks for missed days."
    )
    drift_warn: float = Field(
        0.1, gt=0, description="Population stability index from which drift is a warning."
    )
    drift_fail: float = Field(
        0.25, gt=0, description="Population stability index from which drift is an error."
    )
    freshness_hours: int = Field(
        30, ge=1, description="Hours after which an asset that was not updated is overdue."
    )
    prices: Prices = Field(
        default_factory=Prices, description="What an hour of each device costs, by hour of day."
    )

    serving_memory: str = Field(
        "1GB", pattern=SIZE, description="Memory of the server for predictions and vectors."
    )
    serving_vectors: Literal["fp32", "fp16", "sq8", "pq"] = Field(
        "fp16", description="How the server holds vectors in memory."
    )
    serving_redis: str = Field(
        "",
        pattern=r"^((redis|rediss|unix)://\S+)?$",
        description="Redis or Valkey that several servers share; empty for none.",
    )
    serving_rate: int = Field(
        1_000, ge=1, description="Requests a second that one API key may make, on average."
    )
    serving_queue: int = Field(
        1_000, ge=1, description="Rows that may wait to be scored in real time."
    )
    dagster_url: str = Field(
        "http://127.0.0.1:3000",
        pattern=r"^(https?://\S+)?$",
        description="Address of the Dagster UI, for links to lineage; empty for none.",
    )

    @field_validator("schedule_time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return known_time_zone(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, toml_file=data_home() / SETTINGS_FILE)
        return init_settings, env_settings, toml

    @property
    def home(self) -> Path:
        return data_home()

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def embedding_cache_bytes(self) -> int:
        return TypeAdapter(ByteSize).validate_python(self.embedding_cache_size)

    @property
    def serving_memory_bytes(self) -> int:
        return TypeAdapter(ByteSize).validate_python(self.serving_memory)


def load_settings() -> Settings:
    """Settings of the current data home.

    Raises:
        BatchAssetsError: a value is wrong; the message names the setting and where it stands.
    """
    path = data_home() / SETTINGS_FILE
    try:
        settings = Settings()
        _refuse_unknown_names(path)
    except ValidationError as error:
        raise BatchAssetsError("; ".join(_explain(e, path) for e in _causes(error))) from error
    except SettingsError as error:  # a table in a variable
        raise BatchAssetsError(
            f"an environment variable is not valid JSON: {error}; {error.__cause__}"
        ) from error
    except OSError as error:
        raise BatchAssetsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise BatchAssetsError(f"{path} is not valid TOML: {error}") from error
    return settings


def _causes(error: ValidationError) -> list[Any]:
    """Without settings that are only wrong because another one, which they follow, is."""
    return [e for e in error.errors() if e["type"] != "default_factory_not_called"]


def _explain(error: Any, path: Path) -> str:
    name = ".".join(str(part) for part in error["loc"])
    variable = f"{ENV_PREFIX}{str(error['loc'][0]).upper()}"
    where = f"environment variable {variable}" if variable in os.environ else str(path)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        message = PATTERNS[name]
    elif error["type"] == "extra_forbidden":
        message = "there is no such setting"
    return f"setting {name!r} in {where}: {message} (got {error['input']!r})"


def _refuse_unknown_names(path: Path) -> None:
    if not path.exists():
        return
    known = sorted(Settings.model_fields)
    for name in tomllib.loads(path.read_text(encoding="utf-8")):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise BatchAssetsError(f"{path} has an unknown setting {name!r}: {hint}")
