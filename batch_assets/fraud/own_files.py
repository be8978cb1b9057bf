"""SQL files with features of one's own: what a file is called, declares and gives.

A file that is wrong is read, too, with what is wrong about it, so that it stops nothing else.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.sql import sql_text

FOLDER = "features"
INPUTS = {
    table.name: table
    for table in (
        tables.CLEAN_TRANSACTIONS,
        tables.FRAUD_LABELS,
        tables.CUSTOMER_DAYS,
        tables.TERMINAL_DAYS,
        tables.TERMINAL_FRAUDS,
        tables.EXCHANGE_RATES,
    )
}
"""What a file may read; of each only what is known, see ``sql/own_inputs.sql``."""
MOST_LOOK_BACK = 400
OWN = "features_"
"""Beginning of the name of a file's table, step and asset."""
JOINED = "__"
"""Between the name of a file and the name of its column."""
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_FIELD = re.compile(r"--\s*([a-z][a-z0-9_]*)\s*:\s*(.*?)\s*$")
_NUMBERS = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    *("float", "double", "decimal", "boolean"),
}
_A_DAY = date(2026, 1, 1)


class OwnFeatureError(BatchAssetsError):
    """A SQL file of features is wrong, or gives what it must not; the message names it."""


@dataclass(frozen=True)
class OwnFile:
    """A SQL file of features.

    Args:
        name: of the file without ``.sql``; the table is called ``features_<name>``.
        select: its one statement, without the comments before it.
        look_back: days before a day that the statement sees when it is run for that day.
        reads: which of ``INPUTS``.
        columns: numbers that it gives, in its order.
        descriptions: of columns, where the header has any.
        problem: why it cannot be used; all but path and name are empty then.
    """

    path: Path
    name: str
    select: str = ""
    look_back: int = 0
    reads: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def features(self) -> dict[str, str]:
        """Its columns under the names that models know, ``<file>__<column>``, and what each is."""
        return {
            f"{self.name}{JOINED}{column}": self.descriptions.get(
                column, f"{column.replace('_', ' ')}, of {FOLDER}/{self.path.name}"
            )
            for column in self.columns
        }


def own_files(home: Path) -> list[OwnFile]:
    """All SQL files in the folder ``features`` of a data home, by name."""
    found = [_of(path, _text(path)) for path in sorted((home / FOLDER).glob("*.sql"))]
    good = {file.name for file in found if not file.problem}
    return [
        replace(file, name=f"{file.name}_{number}") if file.problem and file.name in good else file
        for number, file in enumerate(found)
    ]


def _text(path: Path) -> str | OSError | UnicodeDecodeError:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return error


@cache
def _of(path: Path, text: str | OSError | UnicodeDecodeError) -> OwnFile:
    try:
        if not isinstance(text, str):
            raise OwnFeatureError(f"{path} cannot be read: {text}")
        return _read(path, text)
    except OwnFeatureError as error:
        name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "unnamed"
        return OwnFile(path, name, problem=str(error))


def _read(path: Path, text: str) -> OwnFile:
    if not _NAME.fullmatch(path.stem):
        raise OwnFeatureError(
            f"{path}: the file's name becomes that of a table: use lower case letters, digits and "
            "single underscores, such as customer_pace.sql"
        )
    header, numbers = _header(path, text)
    look_back = _look_back(path, header, numbers)
    reads = _reads(path, header, numbers)
    columns = _columns(path, text, reads)
    described = {name: said for name, said in header.items() if name not in ("look_back", "reads")}
    for name in described:
        if name not in columns:
            known = ["look_back", "reads", *columns]
            raise OwnFeatureError(
                f"{path}, line {numbers[name]}: {name!r} is no field and no column"
                f"{_meant(name, known)}; known are {', '.join(known)}"
            )
    return OwnFile(path, path.stem, _select(text), look_back, reads, columns, described)


def _header(path: Path, text: str) -> tuple[dict[str, str], dict[str, int]]:
    """Fields of the comments before the statement, and the line of each."""
    header: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("--"):
            break
        if match := _FIELD.match(line):
            name, value = match.groups()
            if name in header:
                raise OwnFeatureError(f"{path}, line {number}: {name!r} is said twice")
            header[name], numbers[name] = value, number
    return header, numbers


def _look_back(path: Path, header: Mapping[str, str], numbers: Mapping[str, int]) -> int:
    if "look_back" not in header:
        raise OwnFeatureError(
            f"{path}: its first lines do not say how far it looks back: "
            "add a line such as -- look_back: 30 days"
        )
    match = re.fullmatch(r"(\d{1,4})( days?)?", header["look_back"])
    if not match or int(match[1]) > MOST_LOOK_BACK:
        raise OwnFeatureError(
            f"{path}, line {numbers['look_back']}: look_back is 0 to {MOST_LOOK_BACK} days, such "
            f"as 30 days (got {header['look_back']!r})"
        )
    return int(match[1])


def _reads(path: Path, header: Mapping[str, str], numbers: Mapping[str, int]) -> tuple[str, ...]:
    names = [name.strip() for name in header.get("reads", "").split(",") if name.strip()]
    if not names:
        raise OwnFeatureError(
            f"{path}: its first lines do not say what it reads: "
            "add a line such as -- reads: clean_transactions, fraud_labels"
        )
    for name in names:
        if name not in INPUTS:
            raise OwnFeatureError(
                f"{path}, line {numbers['reads']}: {name!r} cannot be read"
                f"{_meant(name, list(INPUTS))}; what can is {', '.join(INPUTS)}"
            )
    return tuple(dict.fromkeys(names))


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _select(text: str) -> str:
    """The statement, from its first word to before its semicolon."""
    import duckdb

    content = text.encode()
    places = [(at, kind) for at, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    ends = [at for at, _ in places if content[at : at + 1] == b";"]
    return content[places[0][0] : ends[-1] if ends else None].decode()


def _columns(path: Path, text: str, reads: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that the statement gives beside ``transaction_id`` and ``day``."""
    import duckdb

    try:
        statements = duckdb.extract_statements(text)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise OwnFeatureError(f"{path}: it must hold one SELECT statement and nothing else")
        if wrong := statements[0].named_parameters - {"day"}:
            raise OwnFeatureError(
                f"{path}: the only parameter that it is given is $day (it has ${min(wrong)})"
            )
        with duckdb.connect(config={"enable_external_access": False}) as connection:
            for name, empty in _empty_inputs().items():
                if name in reads:
                    connection.register(name, empty)
            parameters = {"day": _A_DAY} if statements[0].named_parameters else None
            found = connection.sql(f"FROM (\n{_select(text)}\n)", params=parameters)
            types = dict(zip(found.columns, found.types, strict=True))
    except duckdb.Error as error:
        raise OwnFeatureError(f"{path}{_in_words(error, reads, text)}") from error
    for name, wanted in (("transaction_id", "varchar"), ("day", "date")):
        if name not in types or types[name].id != wanted:
            raise OwnFeatureError(
                f"{path}: it must give {name}, as the input that it reads has it, of type "
                f"{wanted.upper()}; it gives {', '.join(f'{n} {t}' for n, t in types.items())}"
            )
    columns = tuple(name for name in types if name not in ("transaction_id", "day"))
    if not columns:
        raise OwnFeatureError(f"{path}: it gives no column beside transaction_id and day")
    for name in columns:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise OwnFeatureError(
                f"{path}: column {name!r} must be called by lower case letters, digits and "
                "underscores: name it with AS"
            )
        if types[name].id not in _NUMBERS:
            raise OwnFeatureError(
                f"{path}: column {name!r} is of type {types[name]}, not a number: make it one, "
                "e.g. with ::DOUBLE or a CASE"
            )
    return columns


@cache
def _empty_inputs() -> dict[str, object]:
    """The views that statements see, without rows."""
    import duckdb

    with duckdb.connect() as connection:
        for name, table in INPUTS.items():
            connection.register(f"stored_{name}", table.schema.empty_table())
        connection.register("given_transactions", tables.CLEAN_TRANSACTIONS.schema.empty_table())
        connection.execute(sql_text("own_inputs"))
        return {name: connection.table(name).to_arrow_table() for name in INPUTS}


def _in_words(error: Exception, reads: tuple[str, ...], text: str) -> str:
    """What DuckDB says, with the line of the file, and what may be meant."""
    import duckdb

    said = str(error)
    message = said.splitlines()[0]
    for name in INPUTS:
        if f"Table with name {name} " in said and name not in reads:
            message = f"it reads {name}, which the header's `reads` does not name"
    if isinstance(error, duckdb.ParserException):  # of the file as it is
        line = re.search(r"^LINE (\d+):", said, flags=re.MULTILINE)
        return f", line {line[1]}: {message}" if line else f": {message}"
    named = re.search(r"[\"`]([^\"`]+)[\"`]|name (\S+) does", said)
    for number, line_text in enumerate(text.splitlines(), start=1):
        if named and not line_text.startswith("--") and (named[1] or named[2]) in line_text:
            return f", line {number}: {message}"
    return f": {message}"
