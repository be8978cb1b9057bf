"""A server with narrow limits, whose explanations wait for a file: ``python -m`` this, a folder."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch_assets.fraud.served import fraud_workload
from batch_assets.serving.limits import Limits
from batch_assets.serving.served import Served
from batch_assets.serving.server import Address, serve
from batch_assets.settings import load_settings

LIMITS = Limits(head_bytes=2_000, head_seconds=1.0, seconds=2.0, connections=10)
PATIENT = Limits()


def main(arguments: Sequence[str]) -> None:
    """Arguments: a folder, and ``strict`` or ``patient``."""
    folder, how = Path(arguments[0]), arguments[1]

    def explain(key: str) -> dict[str, Any]:
        (folder / "asked").touch()
        while not (folder / "answer").exists():
            time.sleep(0.01)
        return {"key": key}

    settings = load_settings()
    served = Served(replace(fraud_workload(), explain=explain), settings)
    serve(
        [served],
        settings,
        Address(port=0),
        limits=LIMITS if how == "strict" else PATIENT,
        ready=lambda url: print(f"listening on {url}", flush=True),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
