import json
import subprocess
import sys
from pathlib import Path

import pytest

from batch_assets.inference.plan import ComputePlan
from batch_assets.inference.sizing import Learned
from batch_assets.inference.tuning import Tuning


def test_what_was_kept_is_read_again_for_the_same_model_device_and_precision(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new" / "batch_sizes.json"
    Tuning(path, "m1").keep(Learned(2048, True, 8192), "cpu", "fp32")
    Tuning(path, "m1").keep(Learned(512), "cpu", "fp32", "length<=64")
    assert Tuning(path, "m1").read("cpu", "fp32") == Learned(2048, True, 8192)
    assert Tuning(path, "m1").read("cpu", "fp32", "length<=64") == Learned(512)
    assert Tuning(path, "m1").read("cpu", "bf16") is None
    assert Tuning(path, "m1").read("cuda", "fp32") is None
    assert Tuning(path, "m2").read("cpu", "fp32") is None


def test_a_size_that_failed_in_any_run_stays_failed(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    tuning.keep(Learned(1024, True, 2048), "cpu", "fp32")
    tuning.keep(Learned(4096, True), "cpu", "fp32")
    assert tuning.read("cpu", "fp32") == Learned(1024, True, 2048)


def test_what_failed_is_tried_again_where_there_is_more_memory(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    tuning.keep(Learned(1024, True, 2048), "cpu", "fp32", memory=1000)
    assert tuning.read("cpu", "fp32", memory=1100) == Learned(1024, True, 2048)
    assert tuning.read("cpu", "fp32", memory=500) == Learned(1024, True, 2048)
    assert tuning.read("cpu", "fp32", memory=2000) == Learned(1024, settled=False)
    tuning.keep(Learned(8192, True), "cpu", "fp32", memory=2000)
    assert tuning.read("cpu", "fp32", memory=2000) == Learned(8192, settled=False)
    assert tuning.read("cpu", "fp32", memory=1000) == Learned(1024, True, 2048)


def test_the_first_plan_stays_until_one_that_knows_it_replaces_it(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    first, second = ComputePlan("fp32"), ComputePlan("bf16", batch_rows=512, largest=512)
    assert tuning.read_plan("cpu", "auto") is None
    assert tuning.keep_plan(first, "cpu", "auto") == first
    assert tuning.keep_plan(second, "cpu", "auto") == first
    assert tuning.keep_plan(second, "cpu", "auto", replaces=first) == second
    assert tuning.keep_plan(first, "cpu", "auto", replaces=first) == second
    assert tuning.read_plan("cpu", "auto") == second
    assert tuning.read_plan("cpu", "fp32") is None
    assert Tuning(tuning.path, "n").read_plan("cpu", "auto") is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", '{"m | cpu | fp32 | rows": %s}'],
)
@pytest.mark.parametrize(
    "entry",
    [
        "null",
        "{}",
        '{"rows": 777}',
        '{"rows": "x"}',
        '{"rows": -256}',
    ],
)
def test_a_damaged_file_is_as_none_and_is_put_right(
    tmp_path: Path, content: str, entry: str
) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    tuning.path.write_text(content % entry if "%s" in content else content)
    assert tuning.read("cpu", "fp32") is None
    tuning.keep(Learned(512), "cpu", "fp32")
    assert tuning.read("cpu", "fp32") == Learned(512)


def test_a_place_that_cannot_be_written_is_reported_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    tuning = Tuning(tmp_path / "file" / "sizes.json", "m")
    tuning.keep(Learned(512), "cpu", "fp32")
    assert "not kept" in caplog.text
    assert tuning.read("cpu", "fp32") is None


def test_processes_that_keep_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from batch_assets.inference.sizing import Learned\n"
        "from batch_assets.inference.tuning import Tuning\n"
        "for n in range(25):\n"
        "    Tuning(Path(sys.argv[1]), sys.argv[2]).keep(Learned(512), f'device {n}', 'fp32')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), f"model {n}"]) for n in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(json.loads(path.read_text())) == 75
    assert sorted(one.name for one in tmp_path.iterdir()) == ["sizes.json", "sizes.json.lock"]
