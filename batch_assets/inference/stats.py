"""What a run of the scoring engine did."""

from dataclasses import dataclass, fields


@dataclass
class EngineStats:
    """Filled while rows are scored; stages overlap, so that seconds add up to more than passed.

    Attributes:
        device: where the network ran.
        compiled: whether it ran as compiled by ``torch.compile``.
        threads: threads that computed.
        rows: rows that were given out.
        reused: rows among them whose results were known, and so were not computed.
        read_seconds: reading the input and making a matrix of it.
        compute_seconds: the model, copies to the device and back included.
        write_seconds: what the consumer did with the batches before it asked for the next one.
        waiting_seconds: the stage that computes had no rows, or no room for results.
        elapsed_seconds: from the first row asked for to the end; as long was the device held.
        batch_rows: rows in a compute batch, as far as it settled.
        out_of_memory: batches that did not fit into memory and were done again in smaller ones.
        bytes_read: bytes of the input, as record batches.
        bytes_written: bytes of the files that were made of the results.
        peak_memory_bytes: the most memory of the device that was in use; on a CPU, the most
            resident memory that the process ever had.
    """

    device: str = ""
    precision: str = ""
    compiled: bool = False
    threads: int = 0
    rows: int = 0
    reused: int = 0
    read_seconds: float = 0.0
    compute_seconds: float = 0.0
    write_seconds: float = 0.0
    waiting_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    batch_rows: int = 0
    out_of_memory: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    peak_memory_bytes: int = 0

    def reading(self, seconds: float) -> None:
        """Add seconds of reading."""
        self.read_seconds += seconds

    def waiting(self, seconds: float) -> None:
        """Add seconds in which the stage that computes could not go on."""
        self.waiting_seconds += seconds

    def add(self, other: "EngineStats") -> None:
        """Add what another worker did, or this one before: numbers are summed, peaks compared."""
        for name in ("device", "precision", "compiled", "threads", "batch_rows"):
            setattr(self, name, getattr(other, name) or getattr(self, name))
        for field in fields(self):
            mine, others = getattr(self, field.name), getattr(other, field.name)
            if field.name == "peak_memory_bytes":
                self.peak_memory_bytes = max(mine, others)
            elif field.name not in ("device", "precision", "compiled", "threads", "batch_rows"):
                setattr(self, field.name, mine + others)
