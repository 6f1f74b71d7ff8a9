"""Folders on any pyarrow filesystem: atomic files, manifests, checksums, the lock of a run."""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from synthrec import sealed
from synthrec.errors import UserError


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem and path of a local path or a URI (s3://, gs://, hdfs://, file://)."""
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        return pafs.FileSystem.from_uri(uri)  # type: ignore[no-any-return]
    except (pa.ArrowInvalid, OSError, NotImplementedError) as error:
        raise UserError(
            f"cannot open {uri}: {error}", "use a path, or a URI that pyarrow knows (s3, gs, hdfs)"
        ) from None


@dataclass(frozen=True)
class Folder:
    """A folder on a filesystem. Cheap, picklable, made on first write."""

    fs: pafs.FileSystem
    path: str

    @classmethod
    def open(cls, uri: str, key: str | None = None) -> Folder:
        """A folder; with the source of a key (see `sealed.key`), one whose files are encrypted."""
        fs, path = filesystem(uri)
        return cls(sealed.over(fs, key) if key else fs, path)

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.fs, f"{self.path}/{name}")

    def __str__(self) -> str:
        return self.path

    @property
    def is_local(self) -> bool:
        return isinstance(sealed.base(self.fs), pafs.LocalFileSystem)

    @property
    def plain(self) -> Folder:
        """The same folder, its files as they are on the disk."""
        return Folder(sealed.base(self.fs), self.path)

    @property
    def local(self) -> Path:
        """This folder as a local path. Raises UserError on another filesystem."""
        if not self.is_local:
            raise UserError(f"{self.path} is not on a local filesystem", "this step needs a local or mounted run_dir")
        return Path(self.path)

    def make(self) -> Folder:
        """Create the folder (for its owner alone, where the filesystem knows owners)."""
        try:
            if self.is_local:
                Path(self.path).mkdir(mode=0o700, parents=True, exist_ok=True)
            else:
                self.fs.create_dir(self.path, recursive=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {self.path}: {error.strerror or error}", "check run_dir") from None
        return self

    def exists(self, name: str = "") -> bool:
        path = f"{self.path}/{name}" if name else self.path
        return bool(self.fs.get_file_info(path).type != pafs.FileType.NotFound)

    def delete(self) -> None:
        if self.exists():
            self.fs.delete_dir(self.path)

    def files(self, suffix: str = "") -> list[str]:
        """Names of the files at any depth, relative to the folder, sorted; files being written are left out."""
        return list(self.sizes(suffix))

    def sizes(self, suffix: str = "") -> dict[str, int]:
        """The same with their bytes."""
        found = self.fs.get_file_info(pafs.FileSelector(self.path, recursive=True, allow_not_found=True))
        sizes = {f.path[len(self.path) + 1 :]: int(f.size) for f in found if f.is_file and f.path.endswith(suffix)}
        return {name: sizes[name] for name in sorted(sizes) if not name.rsplit("/", 1)[-1].startswith(".")}

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """A binary stream whose file appears whole or not at all."""
        whole = PurePosixPath(self.path, name)
        part = whole.with_name(f".{whole.name}.{uuid.uuid4().hex[:8]}")
        if self.is_local:
            Path(whole).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with self.fs.open_output_stream(str(part)) as stream:
                yield stream
            self.fs.move(str(part), str(whole))
        except BaseException:  # object stores publish at close, and a stream closes even when the block raises
            with suppress(OSError):
                self.fs.delete_file(str(part))
            raise

    def write_bytes(self, name: str, data: bytes) -> None:
        with self.writing(name) as stream:
            stream.write(data)

    def read_bytes(self, name: str) -> bytes:
        with self.fs.open_input_stream(f"{self.path}/{name}") as stream:
            data: bytes = stream.read()
        if data.startswith(sealed.MAGIC) and self.plain.fs is self.fs:
            raise UserError(f"{self.path}/{name} is encrypted", "set storage.encrypt and storage.key as it was made")
        return data

    def write_files(self, source: Path) -> None:
        """Copy a local folder's files, at any depth, into this one."""
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            self.write_bytes(str(path.relative_to(source)), path.read_bytes())

    @contextmanager
    def fetched(self) -> Iterator[Path]:
        """A local path with this folder's files as they were written: itself, or a copy while the block lasts."""
        if self.is_local and self.plain.fs is self.fs:
            yield Path(self.path)
            return
        with tempfile.TemporaryDirectory() as copy:
            for name in self.files():
                (Path(copy) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(copy) / name).write_bytes(self.read_bytes(name))
            yield Path(copy)

    def write_json(self, name: str, value: Any) -> None:
        self.write_bytes(name, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True).encode())

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_table(self, name: str, table: pa.Table) -> None:
        with self.writing(name) as stream:
            pq.write_table(table, stream, compression="zstd")

    def read_table(
        self, schema: pa.Schema, columns: list[str] | None = None, where: pads.Expression | None = None
    ) -> pa.Table:
        """All Parquet files of this folder as one table; an empty one where there is none."""
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        names = self.files(".parquet")
        if not names:
            return wanted.empty_table()
        paths = [f"{self.path}/{n}" for n in names]
        data = pads.dataset(paths, filesystem=self.fs, format="parquet", schema=schema)
        return data.to_table(columns=wanted.names, filter=where)

    def read_file(self, name: str, schema: pa.Schema) -> pa.Table:
        """One Parquet file, as a table of this schema."""
        with self.fs.open_input_file(f"{self.path}/{name}") as file:
            return pq.read_table(file, columns=schema.names).cast(schema)

    def rows(self, name: str) -> int:
        """How many rows a Parquet file has, read from its end alone."""
        with self.fs.open_input_file(f"{self.path}/{name}") as file:
            return int(pq.read_metadata(file).num_rows)

    def describe(self) -> list[dict[str, Any]]:
        """Name, bytes and sha256 of each file, and rows of each Parquet file: the manifest's list."""
        return [self._describe(name) for name in self.files()]

    def _describe(self, name: str) -> dict[str, Any]:
        path = f"{self.path}/{name}"
        entry: dict[str, Any] = {"name": name, "bytes": self.fs.get_file_info(path).size, "sha256": self.sha256(name)}
        if name.endswith(".parquet"):
            entry["rows"] = self.rows(name)
        return entry

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.fs.open_input_stream(f"{self.path}/{name}") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run alone. The lock goes with the process, however it ends; object stores have none."""
        if not self.is_local:
            yield
            return
        self.make()
        with (Path(self.path) / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another synthrec is working on {self.path}", "wait for it, or give this one its own run_dir"
                ) from None
            yield
