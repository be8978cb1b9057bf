"""Settings of each engine that seem right by its documentation; the fastest is measured in full.

Daft: a class UDF with a batch size; instances, processes or threads are chosen by Daft unless
told. Ray Data: a callable class in a pool of actors, Arrow batches; actors and reads share the
CPUs, so that actors must leave some. Spark: `mapInArrow`, with which Arrow batches come as they
are. pandas: chunks that fit into memory, Arrow-backed vectors.
"""

from typing import Any

Options = dict[str, Any]

SETTINGS: dict[str, dict[str, Options]] = {
    "ours": {"as it comes": {}},
    "daft": {
        "Daft chooses instances, torch with one thread": {"instances": None},
        "Daft chooses instances, torch with all cores": {"instances": None, "torch_threads": True},
        "an instance a core, in processes": {"process": True},
        "an instance a core, in threads": {"process": False},
    },
    "ray_data": {
        "an actor a core, of half a CPU each": {"cpus": 0.5},
        "one actor of one CPU, torch with one thread": {"actors": 1, "cpus": 1},
        "one actor of one CPU, torch with all cores": {
            "actors": 1,
            "cpus": 1,
            "torch_threads": True,
        },
        "an actor a core, of half a CPU each; blocks of 32 MiB": {
            "cpus": 0.5,
            "block_bytes": 2**25,
        },
    },
    "spark": {
        "memory and partitions as they come": {},
        "4 GiB of memory": {"spark.driver.memory": "4g"},
        "partitions of 32 MiB": {"spark.sql.files.maxPartitionBytes": "32m"},
    },
    "pandas": {
        "chunks of 65,536 rows": {"chunk": 65_536},
        "chunks of 262,144 rows": {"chunk": 262_144},
        "chunks of 4,096 rows": {"chunk": 4_096},
        "chunks of 65,536 rows, vectors as a list of arrays": {"chunk": 65_536, "lists": True},
    },
    "ray_naive": {
        "chunks of 65,536 rows": {"chunk": 65_536},
        "chunks of 262,144 rows": {"chunk": 262_144},
        "chunks of 4,096 rows": {"chunk": 4_096},
    },
}
PEERS = tuple(name for name in SETTINGS if name != "ours")
# What ours reads and writes beside what all do.
VARIANTS: dict[str, Options] = {
    "Parquet, uncompressed": {"format": "uncompressed"},
    "Parquet, lz4": {"format": "lz4"},
    "Parquet, zstd level 1": {"format": "zstd 1"},
    "Parquet, zstd level 3": {"format": "zstd 3"},
    "Arrow IPC": {"format": "Arrow IPC"},
    "Lance": {"format": "Lance"},
    "Parquet, zstd level 1; features read as one list column": {"lists": True},
}
