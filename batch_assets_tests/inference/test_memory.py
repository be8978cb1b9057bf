import subprocess
import sys
from pathlib import Path

import pytest
import torch

from batch_assets.inference.memory import memory_budget, peak_memory

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_a_limit_of_the_process_is_its_budget() -> None:
    code = (
        "import resource, torch\n"
        "from batch_assets.inference.memory import memory_budget\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "print(memory_budget(torch.device('cpu')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert int(done.stdout) == min(6 << 30, memory_budget(CPU))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_peak_is_the_most_that_was_resident() -> None:
    status = Path("/proc/self/status").read_text().split()
    resident = int(status[status.index("VmHWM:") + 1]) * 1024
    # The kernel counts in both places, and not in the same batches.
    assert 0.9 * resident < peak_memory(CPU) < 1.1 * resident
