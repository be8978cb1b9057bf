"""Take in a model that was made elsewhere, once it does on a sample what scoring counts on."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.embeddings import EMBEDDING_SIZE
from batch_assets.fraud.feature_rows import feature_rows
from batch_assets.fraud.keys import feature_names
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.versions import compare

if TYPE_CHECKING:
    from batch_assets.inference.foreign_card import ForeignCard

SAMPLE_ROWS = 2048
LARGEST_CARD_BYTES = 2**20


def register(pipeline: Pipeline, file: Path, card_file: Path) -> dict[str, Any]:
    """Check a model and save it as a candidate; nothing is scored by it before it is promoted.

    Args:
        file: a ``torch.export`` program or an ONNX model.
        card_file: its card, YAML or JSON; see ``docs/models.md``.

    Returns:
        ``version``, ``kind``, ``title``, ``state``, ``sample`` (which rows it was run on),
        ``scores`` (lowest, median and highest there), ``vectors`` (what they are), ``notes``,
        ``decision`` (how it compares with the live version), and ``text``, all that in lines.

    Raises:
        BatchAssetsError: it is refused; the message says which file, why, and what to do.
    """
    from batch_assets.inference.devices import resolve_device
    from batch_assets.inference.foreign import (
        FILES,
        LARGEST_BYTES,
        PROJECTION,
        kind_of,
        load_network,
    )
    from batch_assets.inference.foreign_card import card_from
    from batch_assets.inference.foreign_check import check_on

    with _refused(card_file):
        card = card_from(_parsed(_read(card_file, LARGEST_CARD_BYTES)))
        _check_features(card.features, feature_names(pipeline.own))
    device, _ = resolve_device(pipeline.devices[0])
    with _refused(file):
        content = _read(file, LARGEST_BYTES)
        kind = kind_of(content)
        network = load_network(kind, content, card, EMBEDDING_SIZE, device)
        rows, sample = sample_rows(pipeline, card.features)
        checked = check_on(network, rows, device)
    tensors = {} if network.projection is None else {PROJECTION: network.projection}
    version = pipeline.models.save(tensors, _stored(card, kind), {FILES[kind]: content})
    quantiles = np.quantile(checked.scores, [0.0, 0.5, 1.0]).tolist()
    scores = dict(zip(("lowest", "median", "highest"), quantiles, strict=True))
    state, decision = pipeline.models.state(version, MODEL), _compared(pipeline, version)
    text = [
        f"{version} is {state}: {card.title} ({kind})",
        f"checked on {sample}: scores from {scores['lowest']:.4f} to {scores['highest']:.4f}, "
        f"median {scores['median']:.4f}",
        f"vectors: {checked.vectors}",
        *(f"note: {note}" for note in checked.notes),
    ]
    if decision:
        text.append(f"beside the live version: {decision}")
    if state != "live":
        text.append(f"make it live with: batch-assets models promote {version}")
    return {
        "version": version,
        "kind": kind,
        "title": card.title,
        "state": state,
        "sample": sample,
        "scores": scores,
        "vectors": checked.vectors,
        "notes": list(checked.notes),
        "decision": decision,
        "text": text,
    }


def _compared(pipeline: Pipeline, version: str) -> str | None:
    """How a candidate does beside the live version, kept with it; it goes live by hand only."""
    live = pipeline.models.live(MODEL)
    if live is None or pipeline.models.state(version, MODEL) != "candidate":
        return None
    comparison = compare(pipeline, version, live)
    pipeline.models.keep_comparison(version, MODEL, comparison)
    return str(comparison["reason"])


def sample_rows(pipeline: Pipeline, features: Sequence[str]) -> tuple[np.ndarray, str]:
    """Rows to try a model on, float32 [n, features] with 1 < n <= 2,048, and what they are.

    The newest rows of ``transaction_features``; where there are none, made-up ones.
    """
    from batch_assets.inference.batches import feature_matrix

    snapshot = pipeline.warehouse.snapshot(tables.TRANSACTION_FEATURES)
    days = sorted(day for day in snapshot.by_day if snapshot.rows([day]))
    while len(days) > 1 and snapshot.rows(days[1:]) >= SAMPLE_ROWS:
        del days[0]
    if snapshot.rows(days) > 1:
        with pipeline.warehouse.connect() as connection:
            relation = feature_rows(connection, pipeline.state(), days, features)
            table = relation.limit(SAMPLE_ROWS).to_arrow_table()
        rows = feature_matrix(table.to_batches(), features)
        return rows, f"{len(rows):,} rows of {days[0]} to {days[-1]}"
    made_up = np.random.default_rng(0).lognormal(0.0, 2.0, (SAMPLE_ROWS, len(features)))
    made_up[::3] = np.floor(made_up[::3])
    return made_up.astype(np.float32), f"{SAMPLE_ROWS:,} made-up rows, as there are no features yet"


def _stored(card: "ForeignCard", kind: str) -> dict[str, Any]:
    said = card.model_dump(mode="json", exclude_none=True)
    return {**said, "name": MODEL, "kind": kind}


def _check_features(names: Sequence[str], known: Sequence[str]) -> None:
    from batch_assets.inference.foreign_card import ForeignModelError

    unknown = [_with_close(name, known) for name in names if name not in known]
    if unknown:
        raise ForeignModelError(
            f"transaction_features has no {', '.join(unknown)}: its features are {', '.join(known)}"
        )


def _with_close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"{name!r} (did you mean {close[0]!r}?)" if close else repr(name)


def _parsed(content: bytes) -> object:
    from batch_assets.inference.foreign_card import ForeignModelError

    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise ForeignModelError(f"it is neither YAML nor JSON: {message}") from error


def _read(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise BatchAssetsError(
                f"{path} has {size:,} bytes, and {most:,} are the most: use a smaller model"
            )
        return path.read_bytes()
    except OSError as error:
        raise BatchAssetsError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Name the file in what is said against it."""
    from batch_assets.inference.foreign_card import ForeignModelError

    try:
        yield
    except ForeignModelError as error:
        raise BatchAssetsError(f"{path} is refused: {error}") from error
