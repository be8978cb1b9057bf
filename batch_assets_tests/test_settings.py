"""Settings: defaults, then settings.toml, then the environment; errors in one line."""

from datetime import date
from pathlib import Path

import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.settings import Settings, data_home, load_settings


def refused(home: Path, toml: str | bytes) -> str:
    content = toml if isinstance(toml, bytes) else toml.encode()
    (home / "settings.toml").write_bytes(content)
    with pytest.raises(BatchAssetsError) as caught:
        load_settings()
    message = str(caught.value)
    assert "\n" not in message
    assert str(home / "settings.toml") in message
    return message


@pytest.mark.usefixtures("home")
def test_a_home_without_settings_has_defaults() -> None:
    settings = load_settings()
    assert settings.currency == "EUR"
    assert settings.threads >= 1


def test_the_environment_goes_before_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "settings.toml").write_text('start_date = 2018-04-01\ncurrency = "USD"\n')
    assert load_settings().start_date == date(2018, 4, 1)
    monkeypatch.setenv("BATCH_ASSETS_START_DATE", "2020-02-29")
    settings = load_settings()
    assert settings.start_date == date(2020, 2, 29)
    assert settings.currency == "USD"


def test_a_size_is_in_bytes(home: Path) -> None:
    (home / "settings.toml").write_text('embedding_cache_size = "1.5GiB"\n')
    assert load_settings().embedding_cache_bytes == 3 * 2**29


def test_the_home_is_where_the_environment_says(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_home() == home
    assert load_settings().landing == home / "landing"
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("BATCH_ASSETS_HOME", "home")
    assert data_home() == home


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("currency = 'euro'", "setting 'currency'"),
        ("currency = 'euro'", "ISO 4217"),
        ("start_date = '2026-13-01'", "got '2026-13-01'"),
        ("threads = 0", "setting 'threads'"),
        ("schedule_hour = 24", "setting 'schedule_hour'"),
        ("schedule_time_zone = 'Berlin'", "Europe/Berlin"),
        ("memory_limit = 'much'", "a size such as 1GB"),
        ("embedding_cache_size = 'much'", "a size such as 1GB"),
        ("embedding_cache = 'yes'", "setting 'embedding_cache'"),
        ("device = 'gpu'", "cuda"),
        ("device = 'cuda:0,cpu'", "cuda:0,cuda:1"),
        ("precision = 'fp16'", "setting 'precision'"),
        ("gpu_memory_share = 0", "setting 'gpu_memory_share'"),
        ("workers = 0", "setting 'workers'"),
        ("curency = 'EUR'", "did you mean 'currency'?"),
        ("colour = 'red'", "known are catch_up_days, comparison_days"),
        ("prices = 0.2", "expected a table, such as [prices.devices.cpu]"),
        ("[prices]\ncurrency = 'euro'", "setting 'prices.currency'"),
        ("[prices]\ntime_zone = 'Berlin'", "Europe/Berlin"),
        ("[prices]\non_demand_utilisation = 0", "greater than 0"),
        ("[prices]\ncpu = 0.2", "setting 'prices.cpu'"),
        ("[prices]\ncpu = 0.2", "no such setting"),
        ("[prices.devices.cpu]\nspot = {}", "setting 'prices.devices.cpu.normal'"),
        ("[prices.devices.cpu]\nnormal = -1", "setting 'prices.devices.cpu.normal'"),
        ("[prices.devices.cpu]\nnormal = 1\nspot = {night = 1}", "whole hours such as 9-17"),
        ("currency = EUR", "not valid TOML"),
        (b"currency = '\xff'", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_right(
    home: Path, toml: str | bytes, said: str
) -> None:
    assert said in refused(home, toml)


def test_several_wrong_settings_are_all_named(home: Path) -> None:
    message = refused(home, "threads = 'many'\nschedule_hour = -1")
    assert "'threads'" in message
    assert "'schedule_hour'" in message


@pytest.mark.usefixtures("home")
def test_a_wrong_variable_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_ASSETS_START_DATE", "yesterday")
    with pytest.raises(BatchAssetsError, match=r"environment variable BATCH_ASSETS_START_DATE"):
        load_settings()


@pytest.mark.usefixtures("home")
def test_a_variable_that_holds_a_table_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_ASSETS_PRICES", '{"devices": {"cpu": {"normal": 0.5}}}')
    assert load_settings().prices.devices["cpu"].normal == 0.5
    monkeypatch.setenv("BATCH_ASSETS_PRICES", '{"devices": {"cpu": {"normal": "much"}}}')
    with pytest.raises(BatchAssetsError, match="environment variable BATCH_ASSETS_PRICES: "):
        load_settings()
    monkeypatch.setenv("BATCH_ASSETS_PRICES", "{")
    with pytest.raises(BatchAssetsError, match=r'not valid JSON: .*"prices".*; Expecting'):
        load_settings()


def test_settings_that_cannot_be_read_are_an_error(home: Path) -> None:
    (home / "settings.toml").mkdir()
    with pytest.raises(BatchAssetsError, match=r"settings\.toml"):
        load_settings()


@pytest.mark.parametrize("size", ["1GB", "512MB", "1.5GiB", "2 GB"])
def test_sizes_as_duckdb_writes_them_are_memory_limits(home: Path, size: str) -> None:
    (home / "settings.toml").write_text(f"memory_limit = '{size}'")
    assert load_settings().memory_limit == size


@pytest.mark.parametrize(
    "device", ["auto", "cpu", "mps", "cuda", "cuda:1", "cuda:0,cuda:12", "cuda:1, cuda:0"]
)
def test_one_device_or_several_gpus_can_be_named(home: Path, device: str) -> None:
    (home / "settings.toml").write_text(f"device = '{device}'")
    assert load_settings().device == device


def test_every_setting_says_what_it_is_for() -> None:
    assert [n for n, field in Settings.model_fields.items() if not field.description] == []
