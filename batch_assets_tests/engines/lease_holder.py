"""A process that holds a lease until its standard input ends, and says all that happens."""

import sys
from functools import partial
from pathlib import Path

from batch_assets.engines.leases import Leases


def main(folder: Path, run_id: str, slots: int, *devices: str) -> None:
    say = partial(print, flush=True)
    with Leases(folder, slots).hold(devices, run_id, say=say) as names:
        say("got", *names)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
