"""The command line as a script sees it: output, exit codes, one line for a mistake."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from torch import nn

from batch_assets.storage.models import ModelStore
from batch_assets_tests.fraud.zone import Zone, contents
from batch_assets_tests.inference.foreign_models import exported

FIRST, LAST = "2026-03-01", "2026-03-26"
COMMAND = [sys.executable, "-m", "batch_assets"]


def call(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    variables = {**os.environ, "BATCH_ASSETS_HOME": str(home), **environment}
    variables.pop("DAGSTER_HOME", None)
    return subprocess.run(
        [*COMMAND, *arguments], env=variables, capture_output=True, text=True, check=False
    )


def answer(home: Path, *arguments: str) -> Any:
    done = call(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def full_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated days, from files to vectors."""
    home = tmp_path_factory.mktemp("cli") / "home"
    answer(home, "simulate", "--days", "26", "--customers", "300", "--terminals", "400")
    summary = answer(home, "run", "--from", FIRST, "--to", LAST)
    assert summary["trained_model"] == summary["model_version"]
    return home


def test_run_counts_every_row(full_home: Path) -> None:
    summary = answer(full_home, "run", "--from", FIRST, "--to", LAST)
    assert (
        summary["rows_in"]
        == summary["clean"] + summary["quarantined"] + summary["duplicate"]
        > 5000
    )
    assert summary["scored"] == summary["clean"]
    assert summary["scored_rows_per_second"] is None  # all of it was done before
    assert summary["trained_model"] is None


def test_status_names_every_asset_and_what_is_odd(full_home: Path) -> None:
    found = answer(full_home, "status")
    by_name = {asset["asset"]: asset for asset in found["assets"]}
    for name in ("clean_transactions", "fraud_predictions", "transaction_embeddings"):
        assert by_name[name]["days_present"] == 26
        assert by_name[name]["days_missing"] == 0
        assert by_name[name]["newest_day"] == LAST
    assert by_name["fraud_predictions"]["rows"] == by_name["transaction_embeddings"]["rows"]
    assert found["outdated_days"] == []
    assert found["files"]["new"] == 0
    assert ["truncated" in odd["reason"] for odd in found["files"]["damaged"]] == [True]


def test_sql_gives_a_list_of_objects_and_writes_nothing(full_home: Path, tmp_path: Path) -> None:
    rows = answer(full_home, "sql", "select day, count(*) as n from fraud_predictions group by 1")
    assert len(rows) == 26
    assert set(rows[0]) == {"day", "n"}
    vectors = answer(full_home, "sql", "select count(*) as n from transaction_embeddings")
    assert vectors[0]["n"] == sum(row["n"] for row in rows)
    for statement in (
        "drop view clean_transactions",
        f"copy (select 1) to '{tmp_path}/x.csv'",
        "select 1; select 2",
        "select * from read_csv('/etc/hosts')",
        "select nonsense",
    ):
        refused = call(full_home, "sql", statement)
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: ")
        assert "Traceback" not in refused.stderr


def test_alerts_and_similar(full_home: Path) -> None:
    alerts = answer(full_home, "alerts", "--day", LAST, "--top", "5")
    assert [row["rank"] for row in alerts] == [1, 2, 3, 4, 5]
    scores = [row["max_score"] for row in alerts]
    assert scores == sorted(scores, reverse=True)
    first = alerts[0]["transaction_id"]
    found = answer(full_home, "similar", first, "--top", "7", "--from", "2026-03-05", "--exact")
    assert len(found) == 7
    assert first not in {row["transaction_id"] for row in found}
    assert min(row["day"] for row in found) >= "2026-03-05"
    distances = [row["distance"] for row in found]
    assert distances == sorted(distances)


def test_explain_says_what_the_alert_says_and_names_known_frauds(full_home: Path) -> None:
    (alert,) = answer(full_home, "alerts", "--day", LAST, "--top", "1")
    found = answer(full_home, "explain", alert["transaction_id"], "--top", "3")
    assert [reason["text"] for reason in found["reasons"]] == alert["reasons"]
    assert found["score"] == pytest.approx(alert["max_score"])
    assert alert["reasons"]
    frauds = found["nearest_known_frauds"]
    assert len(frauds) == 3
    known = answer(full_home, "sql", "select transaction_id from fraud_labels where is_fraud")
    assert {row["transaction_id"] for row in frauds} <= {row["transaction_id"] for row in known}
    shown = call(full_home, "explain", alert["transaction_id"]).stdout
    for text in (alert["reasons"][0], frauds[0]["transaction_id"], alert["customer_id"]):
        assert text in shown


def test_quality_is_told_of_days_with_known_labels_and_drift_of_the_newest(
    full_home: Path,
) -> None:
    found = answer(full_home, "quality")
    measured = [row["day"] for row in found["quality"] if row["measured"]]
    assert [row["day"] for row in found["quality"]][-1] == LAST
    assert measured[0] == FIRST
    assert measured[-1] < LAST
    assert {row["feature"] for row in found["drift"]} > {"amount", "score", "new_customer"}
    assert any(row["psi"] is not None for row in found["drift"])
    shown = call(full_home, "quality", "--from", FIRST, "--to", LAST).stdout
    for text in ("average_precision", FIRST, "wait for their labels", f"drift on {LAST}"):
        assert text in shown


def test_export_is_one_file_with_all_tables(full_home: Path, tmp_path: Path) -> None:
    rows = answer(full_home, "export", str(tmp_path / "all.duckdb"))
    with duckdb.connect(tmp_path / "all.duckdb", read_only=True) as exported:
        names = [name for (name,) in exported.execute("show tables").fetchall()]
        count = exported.execute("select count(*) from transaction_embeddings").fetchall()
    assert sorted(rows) == names
    assert count[0][0] == rows["fraud_predictions"]


def test_evaluate_leaves_the_live_model(full_home: Path) -> None:
    before = answer(full_home, "models", "list")
    train, test = "2026-03-01:2026-03-07", "2026-03-15:2026-03-19"
    result = answer(full_home, "evaluate", "--train", train, "--delay", "7", "--test", test)
    assert set(result) == {
        "auc",
        "average_precision",
        "card_precision_at_100",
        "card_precision_at_100_ceiling",
        "test_rows",
        "test_frauds",
        "model_version",
    }
    assert result["test_frauds"] > 0
    assert answer(full_home, "models", "list") == before


def test_the_first_model_is_listed_as_live_and_shown_with_why(full_home: Path) -> None:
    (listed,) = answer(full_home, "models", "list")
    assert listed["state"] == "live"
    assert listed["trained_from"] == FIRST
    assert listed["decision"] == "first model"
    shown = answer(full_home, "models", "show", listed["version"][:6])
    assert shown["state_since"] == listed["state_since"] == shown["promotions"][0]["at"]
    assert shown["promotions"][0]["why"] == "first model"
    assert shown["card"]["features"]
    for arguments in (["list"], ["show", listed["version"]]):
        done = call(full_home, "models", *arguments)
        assert done.returncode == 0, done.stderr
        assert listed["version"] in done.stdout
        assert "first model" in done.stdout


def test_a_person_promotes_and_goes_back(full_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(full_home, home)
    (live,) = (model["version"] for model in answer(home, "models", "list"))
    other = another_version(home, live)
    done = call(home, "models", "promote", other[:8])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{other} is live\n{live} was live before\n")
    assert f"batch-assets run --from {FIRST} --to {LAST}" in done.stdout
    states = {model["version"]: model["state"] for model in answer(home, "models", "list")}
    assert states == {live: "retired", other: "live"}
    assert len(answer(home, "status")["outdated_days"]) == 26
    assert answer(home, "models", "rollback") == {
        "version": live,
        "before": other,
        "days_to_rescore": [],
    }
    assert answer(home, "status")["outdated_days"] == []


def another_version(home: Path, version: str) -> str:
    """The same network under a card that says something else."""
    store = ModelStore(home / "models")
    model = store.load(version)
    return store.save(model.tensors, model.card | {"seed": 99})


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["models", "promote", "nonsense"], 1, "There is no model version 'nonsense'"),
        (["models", "rollback"], 1, "There is no version to go back to"),
        (["models"], 2, "Missing command"),
        (["run", "--from", "2026-03-09", "--to", "2026-03-01"], 1, "comes after the last"),
        (["run", "--from", "2025-03-09", "--to", "2026-03-01"], 1, "start_date"),
        (["run", "--from", "2026-03-09", "--to", "2096-03-01"], 1, "is in the future"),
        (["run", "--from", "March", "--to", "2026-03-01"], 2, "is not a day such as"),
        (["run", "--to", "2026-03-01"], 2, "Missing option"),
        (["similar", "no-such-id"], 1, "no-such-id"),
        (["explain", "no-such-id"], 1, "'no-such-id' is not scored"),
        (["alerts", "--day", "2026-06-01"], 1, "is not scored"),
        (
            ["evaluate", "--train", "2026-03-01", "--test", "2026-03-09:2026-03-10"],
            2,
            "range of days",
        ),
        (
            ["evaluate", "--train", "2026-03-01:2026-03-07", "--test", "2026-03-09:2026-03-10"],
            1,
            "test days cannot begin",
        ),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_a_mistake_gets_one_clear_line(
    full_home: Path, arguments: list[str], code: int, says: str
) -> None:
    done = call(full_home, *arguments)
    assert done.returncode == code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        (
            "feeds.yaml",
            "feeds:\n  shop: {glob: a.csv, format: xls}\n",
            "feed 'shop', field 'format'",
        ),
        ("feeds.yaml", "feeds: [", "cannot be read as YAML"),
        ("settings.toml", "start_date = 'soon'\n", "setting 'start_date'"),
        ("settings.toml", "start = 2026-01-01\n", "unknown setting"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, file: str, text: str, says: str) -> None:
    (tmp_path / "settings.toml").write_text("start_date = 2026-03-01\n")
    (tmp_path / "feeds.yaml").write_text("feeds: {}\n")
    (tmp_path / file).write_text(text)
    done = call(tmp_path, "run", "--from", "2026-03-01", "--to", "2026-03-02")
    assert done.returncode == 1
    assert says in done.stderr
    assert str(tmp_path / file) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_feeds_it_says_what_to_do(tmp_path: Path) -> None:
    done = call(tmp_path, "run", "--from", "2026-03-01", "--to", "2026-03-02")
    assert done.returncode == 1
    assert "batch-assets simulate" in done.stderr


def test_help_teaches() -> None:
    done = call(Path("/nonexistent"), "--help")
    assert done.returncode == 0
    for command in (
        "simulate",
        "run",
        "status",
        "similar",
        "alerts",
        "explain",
        "sql",
        "export",
        "evaluate",
    ):
        assert command in done.stdout


def test_a_model_of_another_maker_is_taken_in_or_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("{title: mine, features: [amount], output: logit}")
    (tmp_path / "model.pt2").write_bytes(pickle.dumps({"weights": 1}))
    arguments = ("models", "register", str(tmp_path / "model.pt2"), "--card")
    refused = call(tmp_path / "home", *arguments, str(tmp_path / "card.yaml"))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {tmp_path / 'model.pt2'} is refused: it is a pickle")
    assert len(refused.stderr.splitlines()) == 1
    (tmp_path / "model.pt2").write_bytes(exported(nn.Linear(1, 1), features=1))
    found = answer(tmp_path / "home", *arguments, str(tmp_path / "card.yaml"))
    assert found["state"] == "candidate"
    (listed,) = answer(tmp_path / "home", "models", "list")
    assert (listed["version"], listed["title"]) == (found["version"], "mine")
    assert "mine" in call(tmp_path / "home", "models", "list").stdout


def test_two_runs_at_once_on_an_empty_store_end_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = tmp_path / "together", tmp_path / "alone"
    for home in homes:
        answer(home, "simulate", "--days", "14", "--customers", "250", "--terminals", "300")
    ranges = [("2026-03-01", "2026-03-09"), ("2026-03-05", "2026-03-14")]
    variables = {**os.environ, "BATCH_ASSETS_HOME": str(homes[0])}
    variables.pop("DAGSTER_HOME", None)
    together = [
        subprocess.Popen(
            [*COMMAND, "run", "--from", first, "--to", last],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for first, last in ranges
    ]
    shown = [process.communicate()[0] for process in together]
    assert [process.returncode for process in together] == [0, 0], shown
    answer(homes[1], "run", "--from", "2026-03-01", "--to", "2026-03-14")
    found = []
    for home in homes:
        monkeypatch.setenv("BATCH_ASSETS_HOME", str(home))
        found.append(contents(Zone(home).pipeline()))
    assert found[0].keys() == found[1].keys()
    for name, rows in found[0].items():
        assert rows == found[1][name], name
