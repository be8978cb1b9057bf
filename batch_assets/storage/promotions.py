"""Which version of a model is live, and which ones were: a log to which promotions are added.

    <folder>/000001.json   {"number": 1, "version": ..., "at": ..., "why": ..., "takes_back": null}

Each promotion is a file of its own that appears whole, under the next number, or not at all; of
two processes that want the same number one gets it, and the other looks again. The last file
decides what is live, so that no crash can leave two answers, and nothing is ever written anew.
A file ``live`` beside the folder, in which there was only a version, counts as number 0.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.atomic import create_file

VERSION = re.compile(r"[0-9a-f]{16}")
ANY = "any"
_FILE = re.compile(r"(\d{6,})\.json")


class DamagedPromotionError(BatchAssetsError):
    """The file of a promotion is not what was written."""


@dataclass(frozen=True)
class Promotion:
    """A version that became live.

    Args:
        number: counts the promotions of a model, from 1.
        at: when, UTC.
        why: in words, e.g. "first model".
        takes_back: the number of the promotion that this one undoes, of a rollback.
    """

    number: int
    version: str
    at: datetime
    why: str
    takes_back: int | None = None


class PromotionLog:
    """The promotions of one model, safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def last(self) -> Promotion | None:
        """The promotion that says what is live.

        Raises DamagedPromotionError.
        """
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else None

    def all(self) -> list[Promotion]:
        """All promotions, the oldest first, but for damaged ones."""
        found = []
        for number in self._numbers():
            try:
                found.append(self._read(number))
            except DamagedPromotionError:
                continue
        return found

    def promote(self, version: str, why: str, instead_of: str | None) -> bool:
        """Make a version live, if ``instead_of`` is (None: none; ANY: whatever is).

        Returns whether it is live now.
        """
        while True:
            number, live = self._now(instead_of)
            if live == version:
                return True
            if instead_of not in (ANY, live):
                return False
            if self._add(number + 1, version, why):
                return True

    def roll_back(self, why: str, check: Callable[[str], object]) -> str:
        """Take back the last promotion that stands; returns the version that is live then.

        Args:
            check: is shown that version, and raises if it cannot be live.

        Raises:
            BatchAssetsError: nothing was live before.
        """
        while True:
            self.last()  # raises where it cannot be read
            promotions = self.all()
            held = standing(promotions)
            if len(held) < 2:
                live = f"{held[0].version} is the first" if held else "none was ever live"
                raise BatchAssetsError(
                    f"There is no version to go back to: {live}. Name the one that is to be "
                    "live: `batch-assets models promote VERSION`."
                )
            back, undone = held[-2:]
            check(back.version)
            if self._add(promotions[-1].number + 1, back.version, why, undone.number):
                return back.version

    def _now(self, instead_of: str | None) -> tuple[int, str | None]:
        """Number and version of the last promotion; whoever wants ANY may be without a version."""
        try:
            last = self.last()
            return (last.number, last.version) if last else (0, None)
        except DamagedPromotionError:
            if instead_of != ANY:
                raise
            return self._numbers()[-1], None

    def _add(self, number: int, version: str, why: str, takes_back: int | None = None) -> bool:
        """Add a promotion; False, and no change, if somebody else added one of that number."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = Promotion(number, version, datetime.now(UTC), why, takes_back)
        content = json.dumps(asdict(entry) | {"at": entry.at.isoformat()}, ensure_ascii=False)
        return create_file(self._path(number), f"{content}\n".encode())

    def _numbers(self) -> list[int]:
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        found = [int(match[1]) for match in map(_FILE.fullmatch, names) if match]
        return sorted([*found, *([0] if self._path(0).exists() else [])])

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.json" if number else self.folder.parent / "live"

    def _read(self, number: int) -> Promotion:
        path = self._path(number)
        try:
            promotion = self._parsed(number, path.read_bytes().decode())
            if not VERSION.fullmatch(promotion.version):
                raise ValueError(f"it names {promotion.version[:40]!r}, which is no version")
            return promotion
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedPromotionError(
                f"{path} does not hold a promotion ({error}), so nobody knows which version is "
                "live. Promote one: `batch-assets models promote VERSION`."
            ) from error

    def _parsed(self, number: int, text: str) -> Promotion:
        if not number:
            at = datetime.fromtimestamp(self._path(0).stat().st_mtime, UTC)
            return Promotion(0, text.strip(), at, "live before promotions were recorded")
        content = json.loads(text)
        return Promotion(**content | {"at": datetime.fromisoformat(content["at"])})


def standing(promotions: Sequence[Promotion]) -> list[Promotion]:
    """Promotions that were not taken back; the last one's version is live, the others were."""
    undone = {promotion.takes_back for promotion in promotions}
    return [p for p in promotions if p.takes_back is None and p.number not in undone]
