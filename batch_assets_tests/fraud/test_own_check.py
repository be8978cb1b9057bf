"""A file that looks ahead is caught, at the command line and by the asset's check, by its name."""

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from batch_assets.fraud.own_check import checked, listed
from batch_assets.fraud.own_files import own_files
from batch_assets.fraud.queries import query, status
from batch_assets_tests.fraud.zone import (
    START,
    Zone,
    a_day_of_rows,
    days,
    put_any_model_live,
    rows_of,
)

HEADER = "-- look_back: 2 days\n-- reads: clean_transactions, terminal_days\n"
FINE = f"""{HEADER}SELECT
    c.transaction_id,
    c.day,
    count(*) OVER (
        PARTITION BY c.customer_id ORDER BY c.happened_at
        RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW
    ) AS recent,
    t.tx_count AS terminal_yesterday
FROM clean_transactions AS c
LEFT JOIN terminal_days AS t ON t.terminal_id = c.terminal_id AND t.day = c.day - 1
"""
FORESEEING = f"""{HEADER}SELECT
    transaction_id,
    day,
    amount AS fine,
    count(*) OVER (PARTITION BY customer_id, day) AS of_that_day
FROM clean_transactions
"""
COUNT = 4
DAY = days(COUNT)[-1]


@pytest.fixture
def zone(home: Path) -> Zone:
    zone = Zone(home).describe()
    for day in days(COUNT):
        zone.deliver(day, a_day_of_rows(day))
    (home / "features").mkdir()
    return zone


def batch_assets(*arguments: str) -> "subprocess.CompletedProcess[str]":
    variables = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
    return subprocess.run(
        [sys.executable, "-m", "batch_assets", *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_lists_and_checks_files_before_anything_is_built(zone: Zone) -> None:
    features = zone.home / "features"
    (features / "fine.sql").write_text(FINE)
    zone.pipeline().update(days(COUNT))

    found = json.loads(batch_assets("features", "list", "--json").stdout)
    assert found == [
        {
            "file": "fine.sql",
            "columns": ["fine__recent", "fine__terminal_yesterday"],
            "look_back_days": 2,
            "reads": ["clean_transactions", "terminal_days"],
            "days_built": COUNT,
            "problem": None,
        }
    ]
    good = batch_assets("features", "check")
    assert (good.returncode, good.stderr) == (0, "")
    assert f"12 rows of {DAY}; none looks ahead" in good.stdout

    (features / "crystal_ball.sql").write_text(FORESEEING)
    (features / "broken.sql").write_text(HEADER + "SELECT\n  nothing\nFROM clean_transactions")
    wrong = batch_assets("features", "check")
    assert wrong.returncode == 1
    assert re.search(
        r"column 'of_that_day' of crystal_ball\.sql looks ahead: for transaction t-\S+ of",
        wrong.stderr,
    )
    assert "'fine'" not in wrong.stderr
    assert re.search(r"broken\.sql, line 4: .*\"nothing\" not found", wrong.stderr)
    assert "none looks ahead" in wrong.stdout
    assert batch_assets("features", "check", "fine.sql", "--day", str(START)).returncode == 0


def test_a_run_builds_the_assets_and_a_file_that_looks_ahead_stops_scoring(zone: Zone) -> None:
    (zone.home / "features" / "fine.sql").write_text(FINE)
    pipeline = zone.pipeline()
    version = put_any_model_live(pipeline, features=pipeline.state().feature_names)
    assert "fine__recent" in pipeline.models.card(version)["features"]
    first, last = str(START), str(DAY)
    done = batch_assets("run", "--from", first, "--to", last)
    assert done.returncode == 0, done.stderr
    found = status(pipeline)
    assert found["outdated_days"] == []
    built = {row["asset"]: row["days_present"] for row in found["assets"]}
    assert built["features_fine"] == built["fraud_predictions"] == COUNT
    rows = query(pipeline, "select max(fine__recent) as most from features_fine").to_pylist()
    assert rows[0]["most"] > 1

    (zone.home / "features" / "fine.sql").write_text(
        FINE.replace("AND CURRENT ROW", "AND INTERVAL 1 DAY FOLLOWING")
    )
    stopped = batch_assets("run", "--from", first, "--to", last)
    assert stopped.returncode == 1
    assert zone.pipeline().stale_days(days(COUNT)) == days(COUNT)  # not scored with it
    assert "own_features_do_not_look_ahead" in stopped.stderr


def test_a_broken_file_is_an_asset_that_fails_with_the_reason_and_holds_up_no_other(
    zone: Zone,
) -> None:
    (zone.home / "features" / "Broken one.sql").write_text(FINE)
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    done = batch_assets("run", "--from", str(START), "--to", str(DAY))
    assert done.returncode == 1
    assert "Broken one.sql: the file's name becomes that of a table" in done.stderr
    assert pipeline.stale_days(days(COUNT)) == []
    (row,) = listed(pipeline)
    assert row["problem"].startswith(str(zone.home / "features" / "Broken one.sql"))


def test_the_file_of_the_documentation_is_complete_and_right(zone: Zone) -> None:
    documented = (Path(__file__).parents[2] / "docs/features.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```sql\n(.*?)```", documented, flags=re.DOTALL)
    (zone.home / "features" / "habits.sql").write_text(text)
    for day in days(COUNT)[1:]:
        known = a_day_of_rows(day - timedelta(days=1))
        zone.label(day, [(row[0], row[4], 1) for row in known[::4]])
    pipeline = zone.pipeline()
    pipeline.update(days(COUNT))
    (found,) = checked(pipeline)
    assert (found["problem"], found["rows"]) == (None, 12)
    rows = rows_of(pipeline, pipeline.own["features_habits"].table)
    for column in ("habits__visits", "habits__visits_share", "habits__known_frauds"):
        assert f"`{column}`" in documented
        assert len({row[column] for row in rows}) > 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its first lines do not say how far it looks back"),
        ("-- look_back: a month\n", r"line 1: look_back is 0 to 400 days.*got 'a month'"),
        ("-- look_back: 3\n", "do not say what it reads"),
        ("-- look_back: 3\n-- reads: clean_transaction\n", "line 2: .*mean 'clean_transactions'"),
        (HEADER, "one SELECT statement and nothing else"),
        (HEADER + "SELECT 1; SELECT 2", "one SELECT statement and nothing else"),
        (HEADER + "DELETE FROM clean_transactions", "one SELECT statement and nothing else"),
        (HEADER + "ATTACH 'x.duckdb'", "one SELECT statement and nothing else"),
        (HEADER + "INSTALL httpfs", "one SELECT statement and nothing else"),
        (HEADER + "SELECT\n1 FRO x y z", "line 4: Parser Error"),
        (HEADER + "SELECT * FROM read_text('/etc/hostname')", "disabled by configuration"),
        (HEADER + "SELECT * FROM 'x.parquet'", "disabled by configuration"),
        (HEADER + "SELECT * FROM stored_clean_transactions", "does not exist"),
        (HEADER + "SELECT *\nFROM fraud_labels", "line 4: it reads fraud_labels, which the header"),
        (HEADER + "SELECT delivered_label FROM clean_transactions", "line 3: .*delivered_label"),
        (HEADER + "SELECT $month FROM clean_transactions", r"\$day \(it has \$month\)"),
        (HEADER + "SELECT day, 1 AS x FROM clean_transactions", "it must give transaction_id"),
        (HEADER + "SELECT transaction_id, day FROM clean_transactions", "no column beside"),
        (HEADER + "SELECT transaction_id, day, customer_id FROM clean_transactions", "customer_id"),
        (HEADER + 'SELECT transaction_id, day, 1 AS "A b" FROM clean_transactions', "lower case"),
        (
            HEADER + "-- recnt: how many\nSELECT transaction_id, day, 1 AS recent "
            "FROM clean_transactions",
            "line 3: 'recnt' is no field and no column .did you mean 'recent'",
        ),
        (HEADER + "-- reads: terminal_days\nSELECT 1", "line 3: 'reads' is said twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(home: Path, text: str, said: str) -> None:
    path = home / "features" / "pace.sql"
    path.parent.mkdir()
    path.write_text(text)
    (file,) = own_files(home)
    assert file.problem.startswith(str(path))
    assert re.search(said, file.problem), file.problem


def test_comments_and_semicolons_anywhere_are_no_trouble(home: Path) -> None:
    path = home / "features" / "pace.sql"
    path.parent.mkdir()
    path.write_text(
        HEADER + "-- Prose: with a colon; and é.\n\n/* ; */ SELECT transaction_id, day, "
        "CASE WHEN customer_id = ';é' THEN 1 ELSE 0 END AS odd -- ;\nFROM clean_transactions; -- ;"
    )
    (file,) = own_files(home)
    assert (file.problem, file.columns) == ("", ("odd",))
    assert file.select.startswith("SELECT")
    assert file.select.rstrip().endswith("FROM clean_transactions")


def test_an_unreadable_file_and_two_of_one_name_stop_nothing(home: Path) -> None:
    folder = home / "features"
    folder.mkdir()
    (folder / "latin.sql").write_bytes(b"-- \xe9\n")
    (folder / "pace.sql").write_text(FINE)
    (folder / "Pace.sql").write_text(FINE)
    found = own_files(home)
    assert len({file.name for file in found}) == 3
    assert [file.path.name for file in found if not file.problem] == ["pace.sql"]
    assert timedelta(days=found[-1].look_back) == timedelta(days=2)
