"""What a run of the scoring engine did."""

from dataclasses import dataclass


@dataclass
class EngineStats:
    """Filled while rows are scored; stages overlap, so that seconds add up to more than passed.

    Attributes:
        rows: rows that were given out.
        read_seconds: reading the input and making a matrix of it.
        compute_seconds: the model, copies to the device and back included.
        write_seconds: what the consumer did with the batches before it asked for the next one.
        waiting_seconds: the stage that computes had no rows, or no room for results.
        elapsed_seconds: from the first row asked for to the end.
        batch_rows: rows in a compute batch, as far as it settled.
        out_of_memory: batches that did not fit into memory and were done again in smaller ones.
    """

    device: str = ""
    precision: str = ""
    threads: int = 0
    rows: int = 0
    read_seconds: float = 0.0
    compute_seconds: float = 0.0
    write_seconds: float = 0.0
    waiting_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    batch_rows: int = 0
    out_of_memory: int = 0

    def reading(self, seconds: float) -> None:
        """Add seconds of reading."""
        self.read_seconds += seconds

    def waiting(self, seconds: float) -> None:
        """Add seconds in which the stage that computes could not go on."""
        self.waiting_seconds += seconds
