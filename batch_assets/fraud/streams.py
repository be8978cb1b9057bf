"""Bytes of a landing file as lines of UTF-8, whatever is wrong with them.

A damaged archive gives what can be unpacked. A line that would spoil its
neighbours (bytes that are no text, a quotation mark that is never closed) is
wrapped so that a CSV parser sees a record of one column, and can be unwrapped
into the line and what is wrong with it.
"""

import codecs
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_MARK, _QUOTE, _DELIMITER = "\x1a", "\x1e", "\x1f"
_WIDE = ("utf-16", "utf-32")


class LineStream(io.RawIOBase):
    """Whole lines of a plain or gzipped file, transcoded to UTF-8.

    Args:
        path: the file; gzip is recognised by its first bytes.
        encoding: of the text.
        delimiter: of a CSV file; None leaves lines as they are, but for the encoding.

    After the last byte ``problem`` says what was wrong with the stream, if anything, and
    ``tail`` is what followed its last whole line then.
    """

    def __init__(self, path: Path, encoding: str, delimiter: str | None = None) -> None:
        self._raw = path.open("rb")
        self._blocks = _blocks(self._raw, zipped=self._raw.peek(2)[:2] == b"\x1f\x8b")
        self._encoding = encoding
        self._delimiter = delimiter
        wide = encoding.startswith(_WIDE)
        self._wide = codecs.getincrementaldecoder(encoding)("replace") if wide else None
        self._ready = memoryview(b"")
        self._done = False
        self.tail = b""
        self.problem: str | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._done:
            self._ready = memoryview(self._whole_lines())
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _whole_lines(self) -> bytes:
        try:
            block = next(self._blocks, b"")
        except (EOFError, zlib.error) as error:
            self.problem = f"file is truncated or damaged: {error}"
            block = b""
        if not block:
            self._done = True
            rest, self.tail = (b"", self.tail) if self.problem else (self.tail, b"")
            return self._checked(rest)
        if self._wide:
            block = self._wide.decode(block).encode()
        complete, newline, self.tail = (self.tail + block).rpartition(b"\n")
        return self._checked(complete + newline)

    def _checked(self, lines: bytes) -> bytes:
        encoding = "utf-8" if self._wide else self._encoding
        try:
            text = lines.decode(encoding)
        except UnicodeDecodeError:
            return b"".join(self._line(line, encoding) for line in lines.splitlines(keepends=True))
        if self._delimiter and '"' in text:
            return b"".join(self._quoted(t).encode() for t in text.splitlines(keepends=True))
        return lines if encoding == "utf-8" else text.encode()

    def _line(self, line: bytes, encoding: str) -> bytes:
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            text = line.decode("ascii", errors="backslashreplace")
            return self._wrap(f"bytes are not {self._encoding}", text).encode()
        return self._quoted(text).encode()

    def _quoted(self, line: str) -> str:
        if self._delimiter and line.count('"') % 2:
            return self._wrap("a quotation mark is not closed on its line", line)
        return line

    def _wrap(self, problem: str, line: str) -> str:
        if not self._delimiter:
            return f"{_MARK}{problem}{_MARK}{line}"
        escaped = line.replace('"', _QUOTE).replace(self._delimiter, _DELIMITER)
        return f"{_MARK}{problem}{_MARK}{escaped}"


def _blocks(source: BinaryIO, zipped: bool) -> Iterator[bytes]:
    """Non-empty pieces of a file, unpacked as far as they can be.

    Raises:
        EOFError, zlib.error: after the last good piece of a damaged archive.
    """
    archive = zlib.decompressobj(wbits=31) if zipped else None
    while block := source.read(1 << 20):
        while archive and block:
            if piece := archive.decompress(block):
                yield piece
            block = archive.unused_data
            if archive.eof and block:  # archives may be written one behind the other
                archive = zlib.decompressobj(wbits=31)
        if not archive:
            yield block
    if archive and not archive.eof:
        raise EOFError("the archive ends before its end marker")


def unwrap(text: str, delimiter: str = ",") -> tuple[str, str] | None:
    """``(problem, line)`` of a wrapped line, None for any other."""
    if not text.startswith(_MARK):
        return None
    _, problem, line = text.split(_MARK, 2)
    return problem, line.replace(_QUOTE, '"').replace(_DELIMITER, delimiter).rstrip("\r\n")
