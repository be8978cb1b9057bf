"""Files and directories that appear whole or not at all, for every reader, on a local disk."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def create_directory(target: Path, files: Mapping[str, bytes]) -> None:
    """A directory with its files, in one step; one that is already there stays."""
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        temporary.chmod(0o755)
        for name, content in files.items():
            _write_synced(temporary / name, content)
        temporary.rename(target)
    except OSError:
        # A rename onto a directory with files fails: a racing writer has been quicker.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_file(target: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary = Path(name)
    temporary.chmod(0o644)
    return temporary


def replace_file(target: Path, content: bytes) -> None:
    """Write a file anew: readers see the old content or the new one."""
    temporary = _temporary_file(target, content)
    temporary.replace(target)


def create_file(target: Path, content: bytes) -> bool:
    """A file with its content, in one step; False, and no change, if there is one already."""
    temporary = _temporary_file(target, content)
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:
        return _create_unlinked(target, content)
    finally:
        temporary.unlink()
    return True


def _create_unlinked(target: Path, content: bytes) -> bool:
    """The same on a file system without hard links, where readers may see it still empty."""
    try:
        _write_synced(target, content)
    except FileExistsError:
        return False
    return True
