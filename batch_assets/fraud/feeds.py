"""Feeds are described in ``feeds.yaml``, not programmed.

One entry says where a source delivers, how it writes, and what its columns
mean. ``docs/feeds.md`` explains every field.
"""

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from batch_assets.errors import BatchAssetsError

FEEDS_FILE = "feeds.yaml"
DAY_PATTERN = r"\d{4}-\d{2}-\d{2}"
Kind = Literal["transactions", "labels", "rates"]

COLUMNS_NEEDED: dict[str, tuple[str, ...]] = {
    "transactions": ("key", "customer", "terminal", "amount", "time"),
    "labels": ("key", "time", "label"),
    "rates": ("time", "currency", "rate"),
}


class Columns(BaseModel):
    """Canonical column -> its name in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str | None = None
    customer: str | None = None
    terminal: str | None = None
    amount: str | None = None
    time: str | None = None
    currency: str | None = None
    label: str | None = None
    rate: str | None = None

    def mapped(self) -> dict[str, str]:
        """Canonical name -> name in the file, of the columns that the feed has."""
        return {name: value for name, value in self if value is not None}


class Feed(BaseModel):
    """One source of files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_\-]+$")
    kind: Kind = "transactions"
    region: str = Field("default", pattern=r"^[A-Za-z0-9_\-]+$")
    glob: str = Field(min_length=1)
    format: Literal["csv", "jsonl", "parquet"]
    encoding: str = "utf-8"
    delimiter: str = Field(",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    time_zone: str = "UTC"
    time_format: str = "iso"
    ambiguous_time: Literal["earlier", "later", "quarantine"] = "earlier"
    currency: str | None = Field(None, pattern="^[A-Z]{3}$")
    columns: Columns
    label_delay_days: int = Field(7, ge=0)
    corrections: Literal["quarantine", "replace"] = "quarantine"
    prefix: str = ""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError:
            raise ValueError(f"{value!r} is not an encoding; try utf-8 or latin-1") from None

    @field_validator("time_format")
    @classmethod
    def _known_time_format(cls, value: str) -> str:
        if value not in ("iso", "epoch_s", "epoch_ms") and "%" not in value:
            raise ValueError(
                f"{value!r} is none of iso, epoch_s, epoch_ms, nor a pattern such as %d.%m.%Y %H:%M"
            )
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Feed":
        needed = COLUMNS_NEEDED[self.kind]
        missing = [name for name in needed if name not in self.columns.mapped()]
        if missing:
            raise ValueError(
                f"columns: a {self.kind} feed also needs {', '.join(missing)} "
                "(canonical name: name in the file)"
            )
        if self.kind == "transactions" and not self.currency and not self.columns.currency:
            raise ValueError("say currency: EUR (or another) or name the column in columns.currency")
        if self.glob.count("{day}") > 1:
            raise ValueError("glob may contain {day} once")
        return self

    @property
    def digest(self) -> str:
        """Changes when anything changes that decides what a file of this feed means."""
        what = self.model_dump_json(exclude={"glob"})
        return hashlib.sha256(what.encode()).hexdigest()[:8]

    def files(self, landing: Path) -> Iterator[tuple[Path, date | None]]:
        """Each file of this feed with the day of arrival in its path (None without ``{day}``)."""
        pattern = Path(self.glob) if Path(self.glob).is_absolute() else landing / self.glob
        anchor, parts = Path(pattern.anchor), pattern.parts[1:]
        found = anchor.glob(str(Path(*parts)).replace("{day}", "????-??-??"))
        day_of = _day_matcher(str(pattern))
        for path in sorted(found):
            if path.is_file():
                yield path, day_of(str(path))


def _day_matcher(pattern: str) -> Any:
    if "{day}" not in pattern:
        return lambda path: None
    before, after = pattern.split("{day}")
    regex = re.compile(f"{_glob_regex(before)}({DAY_PATTERN}){_glob_regex(after)}")

    def day_of(path: str) -> date | None:
        match = regex.fullmatch(path)
        try:
            return date.fromisoformat(match.group(1)) if match else None
        except ValueError:
            return None

    return day_of


def _glob_regex(text: str) -> str:
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", text)
    return "".join(
        pieces.get(p, p if p.startswith("[") and p.endswith("]") else re.escape(p)) for p in parts
    )


@dataclass(frozen=True)
class Feeds:
    """All feeds of a data home, by name."""

    by_name: dict[str, Feed]

    def of_kind(self, kind: Kind) -> list[Feed]:
        return [feed for feed in self.by_name.values() if feed.kind == kind]

    @property
    def label_delay_days(self) -> int:
        """Days after which every label of a transaction is expected to be known."""
        inline = [f for f in self.of_kind("transactions") if f.columns.label]
        return max([f.label_delay_days for f in [*inline, *self.of_kind("labels")]], default=7)


def load_feeds(home: Path) -> Feeds:
    """Read and validate ``feeds.yaml``.

    Raises:
        BatchAssetsError: the message names the file, the feed and the field, and what would be right.
    """
    path = home / FEEDS_FILE
    if not path.exists():
        raise BatchAssetsError(
            f"{path} does not exist: describe your feeds there (docs/feeds.md), "
            "or run `batch-assets simulate` for an example"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BatchAssetsError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("feeds"), dict):
        raise BatchAssetsError(f"{path}: expected one key 'feeds' that maps a name to each feed")
    if extra := set(content) - {"feeds"}:
        raise BatchAssetsError(f"{path}: unknown key {sorted(extra)[0]!r} beside 'feeds'")
    return Feeds({str(n): _feed(path, str(n), entry) for n, entry in content["feeds"].items()})


def _feed(path: Path, name: str, entry: Any) -> Feed:
    if not isinstance(entry, dict):
        raise BatchAssetsError(f"{path}, feed {name!r}: expected fields such as glob and format")
    try:
        return Feed(**{**entry, "name": name})
    except ValidationError as error:
        raise BatchAssetsError(
            "; ".join(
                f"{path}, feed {name!r}, field {'.'.join(map(str, e['loc'])) or 'columns'!r}: "
                f"{e['msg'].removeprefix('Value error, ')}"
                for e in error.errors()
            )
        ) from error
