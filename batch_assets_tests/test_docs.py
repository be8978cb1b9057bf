"""The documents are true: README's commands run, and every setting and check is described."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batch_assets.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run(command: str, home: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    words = shlex.split(command)
    if words[0] == "batch-assets":
        words[:1] = [sys.executable, "-m", "batch_assets"]
    variables = {**os.environ, "BATCH_ASSETS_HOME": str(home)}
    variables.pop("DAGSTER_HOME", None)
    return subprocess.run(
        words, env=variables, cwd=folder, capture_output=True, text=True, check=False
    )


def make_target(name: str) -> str:
    """What a target runs, without the environment that it sets up first."""
    recipe = re.search(
        rf"^{name}:[^\n]*\n\t@?\$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE
    )
    assert recipe, f"the Makefile has no target {name}"
    return recipe.group(1).replace(" $(ARGS)", "")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for command in commands():
        if command == "make test":  # this is it
            continue
        if command.startswith("make "):
            command = make_target(command.split()[1])
        done = run(command, home, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if command == "batch-assets demo":
            assert_demo_shows_what_it_promises(done.stdout)
    assert (tmp_path / "tables.duckdb").exists()


def assert_demo_shows_what_it_promises(shown: str) -> None:
    for what in (
        r"[\d,]+ rows in = [\d,]+ clean \+ [\d,]+ quarantined \+ [\d,]+ duplicate",
        r"[\d,]+ rows a second",
        r"average precision 0\.\d+",
        r"ten riskiest customers of 2026-04-14",
        r"most similar to the riskiest one",
        r"make dev",
        r"batch-assets similar",
    ):
        assert re.search(what, shown), f"{what}\n{shown}"


def test_every_file_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_setting_is_documented_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        row = re.search(rf"^\| `{name}` \| ([^|]*) \|", OPERATIONS, flags=re.MULTILINE)
        assert row, f"docs/operations.md does not describe {name}"
        if field.default_factory is None:
            assert row.group(1).strip() == str(field.default)


def test_every_blocking_check_is_documented() -> None:
    from batch_assets.fraud.checks import BLOCKING_CHECKS

    for check in BLOCKING_CHECKS:
        for key in check.check_keys:
            assert f"`{key.name}`" in OPERATIONS
