"""What stands beside the landing files: settings.toml, feeds.yaml, and what was simulated."""

import json
import os
import pathlib
import tomllib

from batch_assets.errors import BatchAssetsError
from batch_assets.simulate.world import Parameters

VERSION = 1
"""Raised whenever the same parameters give other bytes."""

RECORD = "simulation.json"

FEEDS = """\
# Where transactions come from, and how each source writes them.
# Written by the simulator; add your own feeds below.
feeds:
  europe_cards:
    kind: transactions
    region: europe
    glob: europe_cards/{day}/*.csv.gz
    format: csv
    encoding: utf-8
    delimiter: ";"
    decimal: ","
    time_zone: Europe/Berlin
    time_format: "%d.%m.%Y %H:%M:%S"
    currency: EUR
    columns:
      key: Buchungsnummer
      customer: Kunde
      terminal: Händler
      amount: Betrag
      time: Zeitpunkt

  america_pos:
    kind: transactions
    region: america
    glob: america_pos/{day}/*.jsonl
    format: jsonl
    time_zone: America/New_York
    time_format: iso
    currency: USD
    columns:
      key: txn_id
      customer: card_holder
      terminal: merchant
      amount: amt
      time: ts

  asia_wallet:
    kind: transactions
    region: asia
    glob: asia_wallet/{day}/*.parquet
    format: parquet
    time_zone: Asia/Tokyo
    time_format: epoch_ms
    prefix: J            # its ids are bare numbers
    corrections: replace # a key that comes again with other content replaces the earlier row
    columns:
      key: ledger_id
      customer: wallet
      terminal: shop
      amount: value
      time: created_ms
      currency: ccy

  fraud_reports:
    kind: labels
    glob: fraud_reports/{day}/*.csv
    format: csv
    columns:
      key: transaction
      time: time
      label: fraud

  exchange_rates:
    kind: rates
    glob: exchange_rates/{day}/*.csv
    format: csv
    columns:
      time: date
      currency: currency
      rate: rate
"""


def prepare(home: pathlib.Path, parameters: Parameters) -> pathlib.Path:
    """Write settings and feeds into a home and give its landing folder.

    Settings and feeds that stand beside an earlier run of the same simulation are left as
    they are, since a person may have added to them.

    Raises:
        BatchAssetsError: the home holds other data, settings or feeds.
    """
    landing = home / "landing"
    record = landing / RECORD
    if not _same_simulation(record, parameters):
        _refuse_if_occupied(home, parameters)
        try:
            landing.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BatchAssetsError(
                f"{landing} cannot be created ({error.strerror}). Choose a data home "
                "(BATCH_ASSETS_HOME) that is a folder in which you may write."
            ) from error
        # The record comes first: after an interruption the same command goes on.
        _write(record, json.dumps(_identity(parameters), indent=2) + "\n")
    for path, text in _companions(home, parameters).items():
        if not path.exists():
            _write(path, text)
    return landing


def _same_simulation(record: pathlib.Path, parameters: Parameters) -> bool:
    if not record.is_file():
        return False
    try:
        earlier = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        earlier = None
    if earlier != _identity(parameters):
        raise BatchAssetsError(
            f"{record.parent} holds another simulation ({_said(earlier)}), asked for was "
            f"{_said(_identity(parameters))}. Use these values, another data home "
            "(BATCH_ASSETS_HOME), or delete the landing folder and all built from it."
        )
    return True


def _refuse_if_occupied(home: pathlib.Path, parameters: Parameters) -> None:
    landing = home / "landing"
    if landing.exists() and (not landing.is_dir() or any(landing.iterdir())):
        raise BatchAssetsError(
            f"{landing} holds files that no simulation wrote. Use another data home "
            "(BATCH_ASSETS_HOME) or move them away first."
        )
    for path, text in _companions(home, parameters).items():
        if path.exists() and not _agrees(path, text):
            raise BatchAssetsError(
                f"{path} is there already and does not fit this simulation. Use another data "
                "home (BATCH_ASSETS_HOME) or move the file away first."
            )


def _agrees(path: pathlib.Path, text: str) -> bool:
    """Whether a file says what we would write: for TOML, among other things."""
    try:
        present = path.read_text(encoding="utf-8")
        if path.suffix != ".toml":
            return present == text
        found = tomllib.loads(present)
    except ValueError:  # no UTF-8, no TOML
        return False
    return all(found.get(name) == value for name, value in tomllib.loads(text).items())


def _companions(home: pathlib.Path, parameters: Parameters) -> dict[pathlib.Path, str]:
    settings = (
        "# Settings of this data home; environment variables BATCH_ASSETS_... go before them.\n"
        f"start_date = {parameters.start}\n"
        'currency = "EUR"\n'
    )
    return {home / "settings.toml": settings, home / "feeds.yaml": FEEDS}


def _identity(parameters: Parameters) -> dict[str, object]:
    """All but the number of days: a longer simulation begins with the same files."""
    return {
        "version": VERSION,
        "seed": parameters.seed,
        "start": parameters.start.isoformat(),
        "customers": parameters.customers,
        "terminals": parameters.terminals,
    }


def _said(identity: object) -> str:
    if not isinstance(identity, dict):
        return f"unreadable {RECORD}"
    return ", ".join(f"{name} {value}" for name, value in identity.items())


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    half.write_text(text, encoding="utf-8")
    os.replace(half, path)
