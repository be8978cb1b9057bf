"""Loading the package loads nothing heavy, so Dagster starts quickly."""

import subprocess
import sys


def test_neither_lance_nor_lancedb_is_loaded_before_a_store_is_used() -> None:
    program = (
        "import sys; import batch_assets.storage.vectors.resource as resource; "
        "resource.LanceDBResource(uri='nowhere').store(); "
        "print(*sorted({'lance', 'lancedb', 'torch'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ""
