"""Which model scored a day: of a day in memory its block says so, of others the vector store."""

from datetime import date

from batch_assets.serving.searches import reading
from batch_assets.serving.vector_memory import MODEL, model_of
from batch_assets.serving.view import View
from batch_assets.storage.vectors.day_rows import rows_of_day


class DayModels:
    """Remembers what was read once; a day's scoring key includes the model."""

    def __init__(self) -> None:
        self._known: dict[tuple[date, str], str] = {}

    def of(self, view: View, day: date) -> str | None:
        """The model of a day of a view; None if it has no vectors, or not those of its scores."""
        block = view.blocks.get(day)
        if block is not None and block.rows:
            return model_of(block)
        at = day, view.days[day]
        known = self._known.get(at)
        if known is None:
            rows = rows_of_day(view.vectors, *at) if view.vectors else None
            if rows is None or view.vectors is None:
                return None
            with reading(view.vectors.spec):
                known = self._known[at] = str(rows.first(MODEL))
        return known

    def newest(self, view: View) -> str | None:
        """The model of the newest day that has one."""
        known = (self.of(view, day) for day in view.newest_first)
        return next((model for model in known if model is not None), None)
