"""Feeds are described in ``feeds.yaml``, not programmed.

One entry says where a source delivers, how it writes, and what its columns
mean. ``docs/feeds.md`` explains every field.
"""

import codecs
import difflib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.currencies import CURRENCIES
from batch_assets.settings import known_time_zone

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
    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    time_zone: str = "UTC"
    time_format: str = "iso"
    ambiguous_time: Literal["earlier", "later", "quarantine"] = "earlier"
    currency: str | None = None
    columns: Columns
    label_delay_days: int = Field(7, ge=0)
    corrections: Literal["quarantine", "replace"] = "quarantine"
    prefix: str = ""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return known_time_zone(value)

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            if "a,1\n".encode(value).decode(value) != "a,1\n":
                raise LookupError
            return codecs.lookup(value).name
        except (LookupError, ValueError):
            raise ValueError(
                f"{value!r} is not an encoding of text; try utf-8, latin-1 or utf-16"
            ) from None

    @field_validator("delimiter")
    @classmethod
    def _one_delimiter(cls, value: str) -> str:
        if len(value) != 1 or value in '"\r\n' or not value.isascii():
            raise ValueError(f'{value!r} is not one character such as ";" or "\\t" (in quotes)')
        return value

    @field_validator("currency")
    @classmethod
    def _known_currency(cls, value: str | None) -> str | None:
        if value is not None and value not in CURRENCIES:
            raise ValueError(f"{value!r} is not an ISO 4217 code such as EUR")
        return value

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
                f"a {self.kind} feed also needs {', '.join(missing)} "
                "(canonical name: name in the file)"
            )
        if self.kind == "transactions" and not self.currency and not self.columns.currency:
            raise ValueError(
                "say currency: EUR (or another) or name the column in columns.currency"
            )
        return self

    @field_validator("glob")
    @classmethod
    def _one_day(cls, value: str) -> str:
        if value.count("{day}") > 1:
            raise ValueError(f"{value!r} may contain {{day}} once")
        if "{" in value.replace("{day}", "") or "}" in value.replace("{day}", ""):
            raise ValueError(f"{value!r} may contain {{day}}, and no other braces")
        return value

    @property
    def digest(self) -> str:
        """Changes when anything changes that decides what a file of this feed means."""
        what = self.model_dump_json(exclude={"glob"})
        return hashlib.sha256(what.encode()).hexdigest()[:8]

    def files(self, landing: Path) -> Iterator[tuple[Path, date | None]]:
        """Each file of this feed with the day of arrival in its path (None without ``{day}``)."""
        pattern = Path(self.glob)
        root = Path(pattern.anchor) if pattern.is_absolute() else landing
        relative = str(pattern.relative_to(pattern.anchor))
        day_of = _day_matcher(relative)
        for path in sorted(root.glob(relative.replace("{day}", "????-??-??"))):
            if path.is_file() and not path.name.startswith("."):
                yield path, day_of(str(path.relative_to(root)))


def _day_matcher(pattern: str) -> Callable[[str], date | None]:
    if "{day}" not in pattern:
        return lambda path: None
    before, after = pattern.split("{day}")
    regex = re.compile(f"{_glob_regex(before)}({DAY_PATTERN}){_glob_regex(after)}", re.DOTALL)

    def day_of(path: str) -> date | None:
        match = regex.fullmatch(path)
        try:
            return date.fromisoformat(match.group(1)) if match else None
        except ValueError:
            return None

    return day_of


def _glob_regex(text: str) -> str:
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", text)
    return "".join(
        pieces.get(p, p.replace("[!", "[^", 1) if i % 2 else re.escape(p))
        for i, p in enumerate(parts)
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
        BatchAssetsError: the message names file, feed and field, and what would be right.
    """
    path = home / FEEDS_FILE
    if not path.exists():
        raise BatchAssetsError(
            f"{path} does not exist: describe your feeds there (docs/feeds.md), "
            "or run `batch-assets simulate` for an example"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise BatchAssetsError(f"{path} cannot be read as YAML: {why}") from error
    if not isinstance(content, dict) or not isinstance(content.get("feeds"), dict):
        raise BatchAssetsError(f"{path}: expected one key 'feeds' that maps a name to each feed")
    if extra := set(content) - {"feeds"}:
        unknown = sorted(map(str, extra))[0]
        raise BatchAssetsError(f"{path}: unknown key {unknown!r} beside 'feeds'")
    return Feeds({str(n): _feed(path, str(n), entry) for n, entry in content["feeds"].items()})


class _Loader(yaml.SafeLoader):
    """YAML in which a name that stands twice is an error, and not the end of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if name != "<<" and names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} stands there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _feed(path: Path, name: str, entry: Any) -> Feed:
    if not isinstance(entry, dict):
        raise BatchAssetsError(
            f"{path}, feed {name!r}: expected fields such as glob, format and columns"
        )
    try:
        return Feed(**{str(field): value for field, value in entry.items()} | {"name": name})
    except ValidationError as error:
        wrong = [f"{path}, feed {name!r}, {_explain(e)}" for e in error.errors()]
        raise BatchAssetsError("; ".join(wrong)) from error


def _explain(error: Any) -> str:
    place = [str(part) for part in error["loc"]] or ["columns"]
    known = sorted(Columns.model_fields if len(place) > 1 else Feed.model_fields)
    if error["type"] == "missing":
        what = "is missing; docs/feeds.md shows an entry"
    elif error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(place[-1], known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        what = f"is unknown: {hint}"
    elif error["type"] == "string_type":
        what = f"must be text: put {error['input']!r} into quotation marks"
    elif error["type"] == "string_pattern_mismatch":
        what = f"may hold letters, digits, _ and - only (got {error['input']!r})"
    elif error["type"] == "value_error":
        what = error["msg"].removeprefix("Value error, ")
    else:
        what = f"{error['msg']} (got {error['input']!r})"
    return f"field {'.'.join(place)!r}: {what}"
