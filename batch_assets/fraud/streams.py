"""Bytes of a landing file as lines of UTF-8, whatever is wrong with them.

A damaged archive gives what can be unpacked. A line that would spoil its
neighbours (bytes that are no text, a quotation mark that is never closed, far
too long) is wrapped so that a CSV parser sees a record of one column, and can
be unwrapped into the line and what is wrong with it.
"""

import codecs
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

LINE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_LONG_LINE_KEEPS = 1_000
_BOM = "\ufeff".encode()
_MARK = "\x1a"
_BLANK = f"{_MARK}{_MARK}"
_STAND_INS = {'"': "\x1e", "\r": "\x1d"}
_DELIMITER = "\x1f"


class LineStream(io.RawIOBase):
    """Whole lines of a plain or gzipped file, transcoded to UTF-8, without byte order mark.

    Args:
        path: the file; gzip is recognised by its first bytes.
        encoding: of the text.
        delimiter: of a CSV file, whose blank lines are wrapped too, so that they count; None
            leaves lines as they are, but for the encoding.

    After the last byte ``problem`` says what was wrong with the stream, if anything, and
    ``tail`` is what followed its last whole line then.
    """

    _raw: io.BufferedReader | None = None  # stays so where the file cannot be opened

    def __init__(self, path: Path, encoding: str, delimiter: str | None = None) -> None:
        self._raw = path.open("rb")
        self._blocks = _blocks(self._raw, zipped=self._raw.peek(2)[:2] == b"\x1f\x8b")
        self._encoding = encoding.replace("utf-8-sig", "utf-8")
        self._delimiter = delimiter
        self._closed_quotes = _closed_quotes(delimiter) if delimiter else None
        wide = "\n,0".encode(self._encoding) != b"\n,0"  # a byte 10 need not be a line's end
        self._wide = codecs.getincrementaldecoder(encoding)("replace") if wide else None
        self._ready = memoryview(b"")
        self._started = False
        self._done = False
        self._cut = 0
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
        if self._raw:
            self._raw.close()
        super().close()

    def _whole_lines(self) -> bytes:
        """The lines that the next block completes."""
        block = self._next_block()
        if self._done:
            if self.problem:
                self.tail += block
                return b""
            lines, self.tail = self._completed(block), b""
            return lines
        complete, newline, rest = block.rpartition(b"\n")
        lines = self._completed(complete + newline) if newline else b""
        room = max(0, LINE_BYTES - len(self.tail))
        self.tail += rest[:room]
        self._cut += len(rest[room:])
        return lines

    def _next_block(self) -> bytes:
        try:
            block = next(self._blocks, b"")
        except (EOFError, zlib.error) as error:
            self.problem = f"file is truncated or damaged: {error}"
            block = b""
        self._done = not block
        if self._wide:
            block = self._wide.decode(block, final=self._done).encode()
        if not self._started and (self._wide or self._encoding == "utf-8"):
            block = block.removeprefix(_BOM)
        self._started = True
        return block

    def _completed(self, rest: bytes) -> bytes:
        """What was begun, with the end of its line and the lines that follow."""
        begun, cut = self.tail, self._cut
        self.tail, self._cut = b"", 0
        if not cut:
            return self._checked(begun + rest)
        end, newline, others = rest.partition(b"\n")
        size = len(begun) + cut + len(end)
        kept = begun[:_LONG_LINE_KEEPS].decode("ascii", errors="backslashreplace")
        problem = f"line has {size:,} bytes, more than the {LINE_BYTES:,} that are read"
        return self._wrap(problem, f"{kept}...").encode() + newline + self._checked(others)

    def _checked(self, lines: bytes) -> bytes:
        encoding = "utf-8" if self._wide else self._encoding
        try:
            text: str | None = lines.decode(encoding)
        except UnicodeDecodeError:
            text = None
        if text is None or self._is_suspect(text):
            return b"".join(self._line(line, encoding) for line in io.BytesIO(lines))
        return lines if encoding == "utf-8" else text.encode()

    def _is_suspect(self, text: str) -> bool:
        """Whether some line of it may have to be wrapped."""
        if _MARK in text or (self._wide and "\ufffd" in text):
            return True
        if not self._closed_quotes:
            return False
        blank = text.startswith(("\n", "\r")) or "\n\n" in text or "\n\r" in text
        return blank or ('"' in text and not self._closed_quotes.fullmatch(text))

    def _line(self, line: bytes, encoding: str) -> bytes:
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            text = line.decode("ascii", errors="backslashreplace")
            return self._wrap(f"bytes are not {self._encoding}", text).encode()
        if self._wide and "\ufffd" in text:
            return self._wrap(f"bytes are not {self._encoding}", text).encode()
        if text.startswith(_MARK):
            return self._wrap("line begins with the control character U+001A", text).encode()
        if self._closed_quotes and not text.strip("\r\n"):
            return f"{_BLANK}\n".encode()
        if self._closed_quotes and not self._closed_quotes.fullmatch(text):
            return self._wrap("a quotation mark is not closed on its line", text).encode()
        return text.encode()

    def _wrap(self, problem: str, line: str) -> str:
        text = line.rstrip("\r\n")
        ending = line[len(text) :]
        if self._delimiter:
            text = text.replace(self._delimiter, _DELIMITER)
            for mark, stand_in in _STAND_INS.items():
                text = text.replace(mark, stand_in)
        return f"{_MARK}{problem}{_MARK}{text}{ending}"


def _closed_quotes(delimiter: str) -> re.Pattern[str]:
    """Lines in which each quotation mark that opens a column is closed before the line ends.

    One that stands elsewhere in a column is a character as any other.
    """
    end = rf"[{re.escape(delimiter)}\r\n]"
    other = rf"[^{re.escape(delimiter)}\r\n]"
    column = rf'(?:"(?:[^"\n]|"")*+"{other}*+|(?!"){other}++)?+'
    return re.compile(rf"(?:{column}{end})*+{column}")


def _blocks(source: BinaryIO, zipped: bool) -> Iterator[bytes]:
    """Non-empty pieces of a file of a limited size, unpacked as far as they can be.

    Raises:
        EOFError, zlib.error: after the last good piece of a damaged archive.
    """
    if not zipped:
        while block := source.read(_BLOCK_BYTES):
            yield block
        return
    archive = zlib.decompressobj(wbits=31)
    while block := source.read(_BLOCK_BYTES):
        while block:
            if archive.eof:  # archives may be written one behind the other, and padded
                block = block.lstrip(b"\0")
                if not block:
                    break
                archive = zlib.decompressobj(wbits=31)
            if piece := archive.decompress(block, _BLOCK_BYTES):
                yield piece
            block = archive.unconsumed_tail or archive.unused_data
    while not archive.eof and (piece := archive.decompress(b"", _BLOCK_BYTES)):
        yield piece
    if not archive.eof:
        raise EOFError("the archive ends before its end marker")


def unwrap(text: str, delimiter: str = ",") -> tuple[str, str] | None:
    """``(problem, line)`` of a wrapped line, None for any other; a blank line has no problem."""
    if text.startswith(_BLANK) and not text[len(_BLANK) :].strip():
        return "", ""
    if not text.startswith(_MARK):
        return None
    _, problem, line = text.split(_MARK, 2)
    for mark, stand_in in _STAND_INS.items():
        line = line.replace(stand_in, mark)
    return problem, line.replace(_DELIMITER, delimiter).rstrip("\r\n")
