"""How the memory of the server is shared out."""

from dataclasses import dataclass

BLOCKS, HOT, VECTORS, STORE = 0.50, 0.05, 0.35, 0.10
"""Five million predictions fit into their part of a gigabyte."""


@dataclass(frozen=True)
class Budget:
    """Bytes for what is kept in memory; the interpreter and its libraries come on top.

    Args:
        total: bytes in all.
    """

    total: int

    @property
    def blocks(self) -> int:
        """For the newest days' predictions, their indexes, and the filters of all other days."""
        return int(self.total * BLOCKS)

    @property
    def hot(self) -> int:
        """For rows of other days that were asked for."""
        return int(self.total * HOT)

    @property
    def vectors(self) -> int:
        """For the newest days' vectors and their index."""
        return int(self.total * VECTORS)

    @property
    def store_cache(self) -> int:
        """For indexes and metadata of the vector store, which it keeps by itself."""
        return int(self.total * STORE)
