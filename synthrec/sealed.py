"""Encryption at rest: a pyarrow filesystem that seals what is written and opens what is read.

A file is a header and chunks of AES-256-GCM. Its own random data key stands in the header, wrapped by the master key.
Chunks are numbered and the last one is marked, both in the nonce (STREAM; Hoang, Reyhanitabar, Rogaway, Vizár,
"Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): one that is changed, moved,
doubled or cut off does not open. Chunks are small and of one size, so that a column of a
Parquet file is read without the rest.

    header: "SREC" | version 1 | id of the master key 8 | nonce 12 | wrapped data key 48
    chunk:  CHUNK bytes of text (the last: fewer, or none) | tag 16
    nonce of a chunk: 0 0 0 | its number 8 | 1 if it is the last, else 0
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyarrow import fs as pafs

from synthrec.errors import UserError

MAGIC = b"SREC\x01"
HEADER = len(MAGIC) + 8 + 12 + 48
CHUNK = 64 * 1024
TAG = 16


class SealError(UserError, OSError):
    """A file that does not open, or a key that cannot be had. Says where the key came from, never what it is."""


def derived(secret: bytes, purpose: str, length: int = 32) -> bytes:
    """A key for one purpose, which tells nothing of the secret or of keys for others (HKDF-SHA256, RFC 5869)."""
    return HKDF(SHA256(), length, salt=None, info=f"synthrec {purpose}".encode()).derive(secret)


class Key:
    """The master key, ready for use. It is never pickled: another process gets its source and fetches it itself."""

    def __init__(self, secret: bytes, source: str) -> None:
        if len(secret) < 16:
            raise SealError(f"{source} holds no key of 16 or more bytes", "make one: openssl rand -hex 32")
        self.source = source
        self.id = derived(secret, "key id", 8)
        self._wrap = AESGCM(derived(secret, "wrap data keys"))

    def __repr__(self) -> str:  # the key must not reach a log
        return f"Key({self.source})"

    def __reduce__(self) -> Any:
        raise TypeError("a key does not leave its process")

    def header(self) -> tuple[bytes, AESGCM]:
        """A new file's header, and the cipher of its chunks."""
        data_key, nonce = AESGCM.generate_key(256), os.urandom(12)
        front = MAGIC + self.id
        return front + nonce + self._wrap.encrypt(nonce, data_key, front), AESGCM(data_key)

    def open(self, header: bytes, path: str) -> AESGCM:
        """The cipher of a file's chunks. Raises SealError: no sealed file, another key, or a changed header."""
        if header[: len(MAGIC)] != MAGIC:
            raise SealError(
                f"{path} is not encrypted, or not by this version",
                "a run directory is encrypted from its first file on: give storage.encrypt a new run_dir",
            )
        front, nonce, wrapped = header[: len(MAGIC) + 8], header[len(MAGIC) + 8 : HEADER - 48], header[HEADER - 48 :]
        if front[len(MAGIC) :] != self.id:
            raise SealError(f"{path} was encrypted with another key than that of {self.source}", "give storage.key it")
        try:
            return AESGCM(self._wrap.decrypt(nonce, wrapped, front))
        except InvalidTag:
            raise _damaged(path) from None


@cache
def key(source: str) -> Key:
    """The master key, by where it is: `env:NAME`, `file:PATH`, or `hook:package.module:function` (of a KMS's client),
    which returns bytes.

    Raises:
        SealError: there is none, or it is too short.
    """
    kind, _, where = source.partition(":")
    hint = "storage.key is env:NAME, file:PATH or hook:package.module:function"
    if kind == "env":
        if where not in os.environ:
            raise SealError(f"the environment variable {where} is not set", "put the key of the run directory there")
        return Key(_spelt(os.environ[where].encode()), source)
    if kind == "file":
        try:
            return Key(_spelt(Path(where).expanduser().read_bytes()), source)
        except OSError as error:
            raise SealError(f"cannot read the key file {where}: {error.strerror}", hint) from None
    module, _, name = where.partition(":")
    try:
        hook: Callable[[], bytes] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SealError(f"storage.key: no {where}: {error}", hint) from None
    return Key(hook(), source)


def _spelt(text: bytes) -> bytes:
    """The bytes that 32 or more hex digits spell, or any other text as it is."""
    text = text.strip()
    try:
        return bytes.fromhex(text.decode()) if len(text) >= 32 else text
    except ValueError:
        return text


def _nonce(number: int, last: bool) -> bytes:
    return b"\0\0\0" + number.to_bytes(8, "big") + bytes([last])


def _damaged(path: str) -> SealError:
    return SealError(f"{path} is damaged or was tampered with", "delete it, and run its stage again")


class Writer:
    """A binary stream that seals into another. Until it is closed the file has no last chunk, and does not open."""

    def __init__(self, to: pa.NativeFile, key: Key) -> None:
        self._to, self._buffer, self._number, self._at = to, bytearray(), 0, 0
        self.closed = False
        self._header, self._cipher = key.header()
        to.write(self._header)

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._buffer += data
        self._at += size
        whole = (len(self._buffer) - 1) // CHUNK  # the last chunk is not known to be it before the end
        if whole > 0:
            view = memoryview(bytes(self._buffer[: whole * CHUNK]))
            self._to.write(b"".join(self._seal(view[i : i + CHUNK], False) for i in range(0, len(view), CHUNK)))
            del self._buffer[: whole * CHUNK]
        return size

    def _seal(self, chunk: Any, last: bool) -> bytes:
        sealed = self._cipher.encrypt(_nonce(self._number, last), chunk, self._header)
        self._number += 1
        return sealed

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._to.write(self._seal(bytes(self._buffer), True))
            self._to.close()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class Reader:
    """A seekable binary stream over a sealed file. What it gives has been authenticated."""

    def __init__(self, of: pa.NativeFile, key: Key, path: str) -> None:
        self._of, self._path, self._at = of, path, 0
        self._cache: tuple[int, bytes] = (-1, b"")
        self.closed = False
        self._header = of.read(HEADER)
        self._cipher = key.open(self._header, path)
        body = of.size() - HEADER
        self._chunks = -(-body // (CHUNK + TAG))
        self._size = body - self._chunks * TAG
        if self._chunks < 1 or self._size < 0:
            raise _damaged(path)
        if self._size == 0:
            self._chunk(0)

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        first, skip = divmod(self._at, CHUNK)
        end = -(-(self._at + size) // CHUNK)
        if size == 0:
            return b""
        if first == self._cache[0] and end == first + 1:
            data = self._cache[1]
        else:
            self._of.seek(HEADER + first * (CHUNK + TAG))
            raw = memoryview(self._of.read((end - first) * (CHUNK + TAG)))
            step = CHUNK + TAG
            parts = [self._open(first + i, raw[i * step : (i + 1) * step]) for i in range(end - first)]
            self._cache = (end - 1, parts[-1])
            data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._at += size
        return data[skip : skip + size]

    def _open(self, number: int, sealed: Any) -> bytes:
        try:
            return self._cipher.decrypt(_nonce(number, number == self._chunks - 1), sealed, self._header)
        except InvalidTag:
            raise _damaged(self._path) from None

    def _chunk(self, number: int) -> bytes:
        self._of.seek(HEADER + number * (CHUNK + TAG))
        return self._open(number, self._of.read(CHUNK + TAG))

    def seek(self, to: int, whence: int = 0) -> int:
        self._at = to + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        self.closed = True
        self._of.close()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True


class _Handler(pafs.FileSystemHandler):  # type: ignore[misc]
    """Passes all but the contents of files on to another filesystem. Pickles with the key's source alone."""

    def __init__(self, base: pafs.FileSystem, source: str) -> None:
        self.base, self.source = base, source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler) and (self.base, self.source) == (other.base, other.source)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def get_type_name(self) -> str:
        return f"sealed+{self.base.type_name}"

    def normalize_path(self, path: str) -> str:
        return self.base.normalize_path(path)  # type: ignore[no-any-return]

    def get_file_info(self, paths: list[str]) -> Any:
        return self.base.get_file_info(paths)

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        return self.base.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self.base.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self.base.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.base.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self.base.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        self.base.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self.base.copy_file(src, dest)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(Reader(self.base.open_input_file(path), key(self.source), path), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(Writer(self.base.open_output_stream(path, metadata=metadata), key(self.source)), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("a sealed file is written once")


def over(base: pafs.FileSystem, source: str) -> pafs.FileSystem:
    """The sealed filesystem over another. Raises SealError at once where the key cannot be had."""
    key(source)
    return pafs.PyFileSystem(_Handler(base, source))


def base(fs: pafs.FileSystem) -> pafs.FileSystem:
    """The filesystem beneath a sealed one; any other one itself."""
    return fs.handler.base if isinstance(fs, pafs.PyFileSystem) and isinstance(fs.handler, _Handler) else fs
