"""Features of many images in files: written batch by batch, and continued after the process was killed."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

from filelock import FileLock, Timeout
from torch import nn
from typing_extensions import Self

from super_selfish.datasets.file_sources import FileSource
from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.datasets.tables import TableRows, as_csv
from super_selfish.errors import CheckpointError, DataError
from super_selfish.evaluation.features import FeatureBatch, feature_batches
from super_selfish.files import keep_previous, sync_folder, with_suffix, write_text

SECONDS = 5.0
"""Time between two saves of the progress, in s: at most this much work is lost when the process is killed."""

_HEADER = 128  # bytes of the header of a .npy file, whatever the number of rows


class Written(NamedTuple):
    """Result of :func:`write_features`.

    Attributes:
        features: Path of the .npy file, float32 (rows, dimensions).
        table: Path of the .csv file, with one line for each row of the features.
        rows: Number of rows.
        dimensions: Number of columns.
        images: Number of images of the data set, with those that could not be read.
    """

    features: Path
    table: Path
    rows: int
    dimensions: int
    images: int


def write_features(
    backbone: nn.Module,
    images: ImageDataset,
    base: Path,
    *,
    weights: str | None,
    batch_size: int = 64,
    report: Callable[[int], object],
    num_workers: int = 0,
    on_error: str = "raise",
) -> Written:
    """Write the features of image files to ``<base>.npy``, and their paths and class names to ``<base>.csv``.

    Memory does not grow with the number of images. Until both files are complete, they are called ``*.part``. The same
    call continues after the process was stopped or killed.

    Args:
        backbone: Network from images to features; feature maps are average-pooled.
        images: The image files.
        base: Path of the files, without suffix.
        weights: Checksum of the weights of the backbone: features of other weights are not continued.
        batch_size: Number of images per batch.
        report: Called with the number of images that are done, at the start and after each batch.
        num_workers: Number of data-loading worker processes.
        on_error: ``"raise"`` an error for unreadable images, or ``"skip"`` them; they have no row then.

    Raises:
        CheckpointError: If the files cannot be written, or ``*.part`` belongs to other images or weights.
        DataError: If an image cannot be read, or none can be.
    """
    with PartialFeatures(images, base, {"weights": weights, "data": images.fingerprint()}) as partial:
        report(partial.done)
        settings: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "on_error": on_error}
        for batch in feature_batches(backbone, images, start=partial.done, **settings):
            partial.append(batch)
            report(partial.done)
        return partial.publish()


class _Lengths(NamedTuple):
    """What is in the files: numbers of images and rows, columns, bytes of the table, and whether that is all."""

    done: int = 0
    rows: int = 0
    dimensions: int = 0
    bytes: int = 0
    is_complete: bool = False


class PartialFeatures:
    """Context manager for the files of an unfinished extraction. Leaving it saves the progress, also after an error.

    Rows are appended to ``<base>.npy.part`` and ``<base>.csv.part``. ``<base>.part.json`` holds their lengths as of the
    last save; what was appended after it is cut off when the extraction continues.

    Args:
        images: The image files.
        base: Path of the files, without suffix.
        identity: Identifies weights and images, as JSON.

    Raises:
        CheckpointError: On entering, if the files cannot be written, or belong to other images or weights.
    """

    def __init__(self, images: ImageDataset, base: Path, identity: Mapping[str, Any]) -> None:
        if not isinstance(images.source, FileSource):
            raise DataError("Features are written for image files only.", expected="a folder or a CSV file of paths")
        self._features, self._table = with_suffix(base, ".npy"), with_suffix(base, ".csv")
        self._parts = [with_suffix(path, ".part") for path in (self._features, self._table)]
        self._progress = with_suffix(base, ".part.json")
        self._lock = FileLock(self._features.with_name(f".{self._features.name}.lock"), timeout=0)
        self._images, self._identity = images, dict(identity)
        self._lines = TableRows(images.source, self._table)
        self._lengths = _Lengths()  # replaced as a whole, so that an interrupt leaves it consistent
        self._streams: list[IO[bytes]] = []
        self._saved = time.monotonic()

    @property
    def done(self) -> int:
        """Number of images that are done."""
        return self._lengths.done

    def __enter__(self) -> Self:
        with self._explained(), contextlib.ExitStack() as undo:
            self._progress.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(NotImplementedError):  # a file system without locks
                self._acquire()
            undo.callback(self._lock.release)
            undo.callback(self._close)
            self._read_progress()
            if not self._lengths.is_complete:
                self._open()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._streams and not isinstance(error, CheckpointError):
                with self._explained():
                    self.save()
        finally:
            self._close()
            self._lock.release()

    def append(self, batch: FeatureBatch) -> None:
        """Append the features of a batch, and save the progress every :data:`SECONDS` seconds."""
        with self._explained():
            before = self._lengths
            dimensions, size = before.dimensions, before.bytes
            if batch.indices:
                dimensions = batch.features.shape[1]
                self._streams[0].write(batch.features.numpy().astype("<f4").tobytes())
                size += self._streams[1].write(as_csv(map(self._lines.row, batch.indices)))
            self._lengths = _Lengths(batch.end, before.rows + len(batch.indices), dimensions, size)
            if time.monotonic() - self._saved >= SECONDS:
                self.save()

    def save(self) -> None:
        """Flush both files to disk, then record their lengths."""
        for stream in self._streams:
            stream.flush()
            os.fsync(stream.fileno())
        state = {"identity": self._identity, **self._lengths._asdict()}
        write_text(self._progress, json.dumps(state, indent=1) + "\n")
        self._saved = time.monotonic()

    def publish(self) -> Written:
        """Give the complete files their names. Files that had these names are renamed to ``*.prev``.

        Raises:
            DataError: If no image could be read.
        """
        found = self._lengths
        if not found.rows:
            raise DataError("None of the images can be read.", received=f"{len(self._images)} unreadable images")
        with self._explained():
            if not found.is_complete:
                self._streams[0].seek(0)
                self._streams[0].write(npy_header(found.rows, found.dimensions))
                self._lengths = found._replace(is_complete=True)
                self.save()
            self._close()
            for part, path in zip(self._parts, (self._features, self._table), strict=True):
                if part.exists():  # otherwise the process was killed after this step
                    keep_previous(path)
                    part.replace(path)
            sync_folder(self._features.parent)
            self._progress.unlink()
        return Written(self._features, self._table, found.rows, found.dimensions, len(self._images))

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise CheckpointError(
                f"Another process writes `{self._features}`.", fix="Wait for it, or choose another output file."
            ) from None

    def _read_progress(self) -> None:
        if not self._progress.exists():
            return
        try:
            state = json.loads(self._progress.read_text(encoding="utf-8"))
            identity = state.pop("identity")
            self._lengths = _Lengths(**state)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"`{self._progress}` is damaged.", fix="Delete it to start over.") from error
        differing = [key for key, value in self._identity.items() if identity.get(key) != value]
        if differing and self.done:
            raise CheckpointError(
                f"`{self._progress}` records an unfinished extraction of other {' and other '.join(differing)}.",
                fix="Delete it to start over, or choose another output file.",
            )

    def _open(self) -> None:
        """Open both files at the recorded lengths; what follows them is cut off."""
        lengths = (_HEADER + 4 * self._lengths.rows * self._lengths.dimensions, self._lengths.bytes)
        for path, length in zip(self._parts, lengths, strict=True):
            if self.done and (not path.is_file() or path.stat().st_size < length):
                raise CheckpointError(
                    f"`{path}` is shorter than `{self._progress}` records.",
                    expected=f"at least {length:,} bytes",
                    fix=f"Delete `{self._progress}` to start over.",
                )
            stream = path.open("r+b" if self.done else "w+b")
            self._streams.append(stream)
            stream.truncate(length)
            stream.seek(length)
        if not self.done:
            self._lengths = _Lengths(bytes=self._streams[1].write(as_csv([self._lines.header])))

    def _close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = []

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(
                f"`{self._features}` could not be written: {error.strerror or error}.",
                fix="Free disk space, or choose another output file. The same command continues where it stopped.",
            ) from error


def npy_header(rows: int, dimensions: int) -> bytes:
    """Header of a .npy file of float32 (rows, dimensions); its length does not depend on the shape."""
    described = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER - 10) + described.ljust(_HEADER - 11).encode() + b"\n"
