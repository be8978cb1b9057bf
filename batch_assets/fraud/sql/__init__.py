"""The SQL of the fraud workload, one statement a file."""

from functools import cache
from importlib.resources import files


@cache
def sql_text(name: str) -> str:
    """The statement in ``<name>.sql``."""
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
