"""feeds.yaml: what it may say, how errors read, and which files a feed has."""

import re
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.feeds import Columns, Feed, load_feeds
from batch_assets.fraud.readers import read_records

CARDS = {
    "glob": "cards/{day}/*.csv",
    "format": "csv",
    "currency": "EUR",
    "columns": {
        "key": "id",
        "customer": "who",
        "terminal": "where",
        "amount": "sum",
        "time": "when",
    },
}


def write(home: Path, text: str) -> Path:
    path = home / "feeds.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(home: Path, text: str) -> str:
    path = write(home, text)
    with pytest.raises(BatchAssetsError) as caught:
        load_feeds(home)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def feed(**changes: object) -> Feed:
    return Feed.model_validate({"name": "cards", **CARDS, **changes})


def test_an_entry_with_the_least_it_needs_is_enough(home: Path) -> None:
    write(home, yaml.safe_dump({"feeds": {"cards": CARDS}}))
    cards = load_feeds(home).by_name["cards"]
    assert (cards.kind, cards.time_zone, cards.corrections) == (
        "transactions",
        "UTC",
        "quarantine",
    )


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"delimeter": ";"}, "delimeter", "did you mean 'delimiter'?"),
        ({"zzz": 1}, "zzz", "known are ambiguous_time"),
        ({"format": "xlsx"}, "format", "'csv', 'jsonl' or 'parquet' (got 'xlsx')"),
        ({"format": None}, "format", "got None"),
        ({"glob": "a/{day}/{day}.csv"}, "glob", "{day} once"),
        ({"glob": "a/{date}.csv"}, "glob", "no other braces"),
        ({"delimiter": "\\t"}, "delimiter", "in quotes"),
        ({"delimiter": '"'}, "delimiter", "one character"),
        ({"decimal": ";"}, "decimal", "'.' or ','"),
        ({"encoding": "utf8000"}, "encoding", "latin-1"),
        ({"encoding": "rot13"}, "encoding", "latin-1"),
        ({"encoding": "base64"}, "encoding", "latin-1"),
        ({"time_zone": "Berlin"}, "time_zone", "Europe/Berlin"),
        ({"time_format": "DD.MM."}, "time_format", "%d.%m.%Y"),
        ({"currency": "EUX"}, "currency", "ISO 4217"),
        ({"currency": None}, "columns", "columns.currency"),
        ({"label_delay_days": -1}, "label_delay_days", "got -1"),
        ({"prefix": 5}, "prefix", "put 5 into quotation marks"),
        ({"region": "a b"}, "region", "letters, digits"),
        ({"columns": {"key": "id"}}, "columns", "also needs customer, terminal, amount, time"),
        ({"columns": CARDS["columns"] | {"custommer": "c"}}, "columns.custommer", "'customer'"),  # type: ignore[operator]
        ({"columns": CARDS["columns"] | {"key": 7}}, "columns.key", "quotation marks"),  # type: ignore[operator]
        ({"kind": "labels"}, "columns", "a labels feed also needs label"),
        ({"kind": "rates"}, "columns", "a rates feed also needs currency, rate"),
    ],
)
def test_an_error_names_file_feed_and_field_and_what_is_right(
    home: Path, changes: dict[str, object], field: str, said: str
) -> None:
    message = refused(home, yaml.safe_dump({"feeds": {"cards": CARDS | changes}}))
    assert f"feed 'cards', field '{field}': " in message
    assert said in message


def test_a_missing_field_is_named(home: Path) -> None:
    entry = {name: value for name, value in CARDS.items() if name != "format"}
    message = refused(home, yaml.safe_dump({"feeds": {"cards": entry}}))
    assert "field 'format': is missing" in message


def test_every_wrong_feed_field_is_named_at_once(home: Path) -> None:
    message = refused(home, yaml.safe_dump({"feeds": {"c": CARDS | {"decimal": 1, "format": 2}}}))
    assert "'decimal'" in message
    assert "'format'" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("feeds: [", "cannot be read as YAML"),
        ("", "one key 'feeds'"),
        ("- a", "one key 'feeds'"),
        ("feeds: {}\nfeed: {}", "unknown key 'feed'"),
        ("feeds: {}\n3: {}", "unknown key '3'"),
        ("feeds: {cards: 3}", "feed 'cards': expected fields"),
        ("feeds: {cards: {}, cards: {}}", "'cards' stands there twice"),
        ("feeds: {a b: {glob: x}}", "letters, digits"),
        ("feeds: {cards: {5: x}}", "field '5': is unknown"),
    ],
)
def test_what_is_no_feeds_file_is_refused(home: Path, text: str, said: str) -> None:
    assert said in refused(home, text)


def test_without_a_file_the_error_says_how_to_get_one(home: Path) -> None:
    with pytest.raises(BatchAssetsError, match=r"docs/feeds\.md.*batch-assets simulate"):
        load_feeds(home)


def test_bytes_that_are_no_utf_8_are_refused(home: Path) -> None:
    (home / "feeds.yaml").write_bytes(b"feeds: {\xff: {}}")
    with pytest.raises(BatchAssetsError, match="cannot be read as YAML"):
        load_feeds(home)


def test_labels_are_complete_after_the_longest_delay(home: Path) -> None:
    inline = CARDS | {"columns": CARDS["columns"] | {"label": "fraud"}}  # type: ignore[operator]
    feeds = {
        "never_labelled": CARDS | {"label_delay_days": 90},
        "labelled": inline | {"label_delay_days": 10},
    }
    write(home, yaml.safe_dump({"feeds": feeds}))
    assert load_feeds(home).label_delay_days == 10


def test_the_digest_changes_with_the_meaning_of_a_file_and_not_with_its_place() -> None:
    assert feed().digest == feed(glob="elsewhere/*.csv").digest
    assert feed().digest != feed(decimal=",").digest


def files(glob: str, landing: Path) -> list[tuple[str, date | None]]:
    return [(p.relative_to(landing).as_posix(), d) for p, d in feed(glob=glob).files(landing)]


def touch(landing: Path, *names: str) -> None:
    for name in names:
        (landing / name).parent.mkdir(parents=True, exist_ok=True)
        (landing / name).touch()


def test_the_day_stands_in_the_folder_or_in_the_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/2026-01-02/x.csv", "a/2026-01-01/x.csv", "b/cards-2026-01-03.csv")
    assert files("a/{day}/*.csv", tmp_path) == [
        ("a/2026-01-01/x.csv", date(2026, 1, 1)),
        ("a/2026-01-02/x.csv", date(2026, 1, 2)),
    ]
    assert files("b/cards-{day}.csv", tmp_path) == [("b/cards-2026-01-03.csv", date(2026, 1, 3))]


def test_two_stars_stand_for_any_number_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/2026-01-01.csv", "a/b/c/2026-01-02.csv", "b/2026-01-03.csv")
    found = files("a/**/{day}.csv", tmp_path)
    assert found == [
        ("a/2026-01-01.csv", date(2026, 1, 1)),
        ("a/b/c/2026-01-02.csv", date(2026, 1, 2)),
    ]


def test_without_a_day_in_the_glob_or_a_real_one_in_the_path_there_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "a/2026-02-30.csv", "a/2026-02-ab.csv")
    assert files("a/{day}.csv", tmp_path) == [
        ("a/2026-02-30.csv", None),
        ("a/2026-02-ab.csv", None),
    ]
    assert {day for _, day in files("a/*.csv", tmp_path)} == {None}


def test_an_absolute_glob_leaves_the_landing_folder(tmp_path: Path) -> None:
    touch(tmp_path, "mount/2026-01-01.csv")
    found = list(feed(glob=f"{tmp_path}/mount/{{day}}.csv").files(tmp_path / "landing"))
    assert found == [(tmp_path / "mount/2026-01-01.csv", date(2026, 1, 1))]


def test_the_name_of_the_landing_folder_is_no_pattern(tmp_path: Path) -> None:
    landing = tmp_path / "[prod] *"
    touch(landing, "2026-01-01/x.csv")
    assert files("{day}/*.csv", landing) == [("2026-01-01/x.csv", date(2026, 1, 1))]


def test_a_character_class_in_the_glob_holds_for_the_day_too(tmp_path: Path) -> None:
    touch(tmp_path, "a1/2026-01-01.csv", "a3/2026-01-01.csv")
    assert files("a[12]/{day}.csv", tmp_path) == [("a1/2026-01-01.csv", date(2026, 1, 1))]
    assert files("a[!12]/{day}.csv", tmp_path) == [("a3/2026-01-01.csv", date(2026, 1, 1))]


def test_hidden_files_and_folders_are_no_files_of_a_feed(tmp_path: Path) -> None:
    touch(tmp_path, "2026-01-01/.x.csv.part", "2026-01-01/x.csv")
    (tmp_path / "2026-01-01/folder").mkdir()
    assert [name for name, _ in files("{day}/*", tmp_path)] == ["2026-01-01/x.csv"]


def documented() -> str:
    return (Path(__file__).parents[2] / "docs" / "feeds.md").read_text(encoding="utf-8")


def test_every_entry_in_the_documentation_is_right(home: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", documented(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        write(home, block)
        assert load_feeds(home).by_name


@pytest.mark.parametrize("name", [*Feed.model_fields, *Columns.model_fields])
def test_every_field_is_documented(name: str) -> None:
    if name != "name":
        assert f"\n| `{name}` |" in documented()


def test_the_defaults_in_the_documentation_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|[^|]*\|$", documented(), re.MULTILINE)
    for name, default in rows:
        stated = default.strip().strip("`")
        field = Feed.model_fields[name]
        assert stated == ("required" if field.is_required() else str(field.default or ""))


def test_the_handbook_is_read_with_the_documented_entry(home: Path, handbook: Path) -> None:
    entry = documented().rpartition("```yaml\n")[2].partition("```")[0]
    write(home, entry.replace("/path/to/handbook", str(handbook)))
    (described,) = load_feeds(home).by_name.values()
    path, day = next(described.files(home / "landing"))
    assert day == date.fromisoformat(path.stem)
    batches = list(read_records(described, path))
    assert sum(batch.num_rows for batch in batches) == pq.read_metadata(path).num_rows
    assert all(batch["problem"].null_count == batch.num_rows for batch in batches)
