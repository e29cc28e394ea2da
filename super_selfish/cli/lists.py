"""Lists of image files with what was found out about them: ``check --write``, ``extract`` and ``predict``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import cast

from tqdm import tqdm
from typing_extensions import Self

from super_selfish.cli.algorithms import device_of
from super_selfish.datasets.file_sources import FileSource
from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.datasets.sources import open_source
from super_selfish.datasets.survey import Survey
from super_selfish.datasets.tables import TableRows, as_csv, write_table
from super_selfish.engine.callbacks.progress import duration
from super_selfish.engine.label import LabelSupervisor
from super_selfish.errors import ConfigurationError, DataError, check_argument
from super_selfish.evaluation.extraction import write_features
from super_selfish.files import base_path, check_writable, with_suffix, write_with
from super_selfish.images.image_files import printable
from super_selfish.saved import load

LINE_SECONDS = 30.0


def check_table(argument: str, path: str) -> Path:
    """Check the path of a CSV file before images are read.

    Raises:
        ConfigurationError: If it does not end in .csv, or cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".csv":
        raise ConfigurationError(
            f"`{argument}` is not the path of a CSV file.",
            expected="a path that ends in .csv",
            received=f"{argument}={path!r}",
        )
    check_writable(target, argument)
    return target


def write_kept(found: Survey, data: str, target: Path, max_pixels: int) -> str:
    """Write the list of images that should stay, and describe it.

    Raises:
        DataError: If fewer than two images would stay.
        CheckpointError: If the file cannot be written.
    """
    kept = found.kept
    if len(kept) < 2:
        raise DataError("Fewer than two images would stay, so no list was written.", received=f"{len(kept)}")
    source = cast(FileSource, open_source(data, max_pixels=max_pixels))  # as of every path
    write_table(source, kept, target)
    removed = [f"{len(places):,} {kind}" for kind, places in found.removed.items() if places]
    left_out = f"; left out: {', '.join(removed)}" if removed else ""
    return f"Written to {target}: {len(kept):,} of {found.images:,} images{left_out}. Every command takes it as DATA."


def extract(
    name: str, data: str, output: str | None, *, batch_size: int, num_workers: int, on_error: str, device: str
) -> str:
    """Write features and a table of the images, and describe both; see ``super-selfish extract``."""
    check_counts(batch_size, num_workers)
    base = with_suffix(base_path(name), ".features") if output is None else base_path(output.removesuffix(".npy"))
    supervisor = load(name).to(device_of(device))
    check_writable(base, "output")
    images = ImageDataset.from_(data, supervisor.preprocessing)
    with ImageProgress(len(images)) as progress:
        written = write_features(
            supervisor.get_backbone(),
            images,
            base,
            weights=str(supervisor.stored.get("sha256")),
            batch_size=batch_size,
            num_workers=num_workers,
            on_error=on_error,
            report=progress.show,
        )
    skipped = f" {written.images - written.rows:,} images could not be read." if written.rows < written.images else ""
    return (
        f"Written to {written.features}: {written.rows:,} rows of {written.dimensions:,} features, float32.\n"
        f"Written to {written.table}: the image of each row.{skipped}"
    )


def predict(
    name: str, data: str, output: str | None, *, batch_size: int, num_workers: int, on_error: str, device: str
) -> str:
    """Write predicted classes of images, and describe them; see ``super-selfish predict``."""
    check_counts(batch_size, num_workers)
    target = check_table("output", output or str(with_suffix(base_path(name), ".predictions.csv")))
    supervisor = load(name)
    if not isinstance(supervisor, LabelSupervisor):
        raise ConfigurationError(
            f"`{name}` was trained without labels, so it predicts no classes.",
            expected="a training of LabelSupervisor",
            received=type(supervisor).__name__,
            fix="super-selfish extract writes its features.",
        )
    supervisor.to(device_of(device))
    images = ImageDataset.from_(data, supervisor.preprocessing)
    found = supervisor.predict(images, batch_size=batch_size, num_workers=num_workers, on_error=on_error)
    lines = TableRows(cast(FileSource, images.source), target)
    numbers = {images.name(index): index for index in range(len(images))}
    rows: list[list[object]] = [["path", "predicted", "probability", *(f"p_{name}" for name in found.classes)]]
    for image, label, probabilities in zip(found.names, found.labels, found.probabilities, strict=True):
        numeric = [round(float(value), 6) for value in probabilities]
        rows.append([lines.row(numbers[image])[0], label, max(numeric), *numeric])
    write_with(target, lambda temporary: temporary.write_bytes(as_csv(rows)))
    counts = Counter(found.labels)
    counted = ", ".join(f"{printable(label)} {count:,}" for label, count in counts.most_common())
    skipped = len(images) - len(found.names)
    left_out = f" {skipped:,} images could not be read." if skipped else ""
    return f"{len(found.names):,} images: {counted}\nWritten to {target}.{left_out}"


def check_counts(batch_size: int, num_workers: int) -> None:
    """Check the numbers of images per batch and of workers."""
    check_argument(batch_size >= 1, "batch_size", batch_size, "at least 1")
    check_argument(num_workers >= 0, "num_workers", num_workers, "at least 0")


class ImageProgress:
    """Context manager that shows on stderr how many images are done: a bar on a terminal, otherwise lines.

    Args:
        total: Number of images.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._first: int | None = None
        self._bar: tqdm[None] | None = None
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int) -> None:
        """Show that so many images are done; the first call is made before the first image."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._begun, self._shown = done, now, now
            if done:
                sys.stderr.write(f"continuing after image {done:,} of {self.total:,}\n")
            if sys.stderr.isatty():
                self._bar = tqdm(total=self.total, initial=done, unit="image", dynamic_ncols=True, file=sys.stderr)
        elif self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif now - self._shown >= LINE_SECONDS or done == self.total:
            self._shown = now
            speed = (done - self._first) / max(now - self._begun, 1e-9)
            left = duration((self.total - done) / max(speed, 1e-9))
            sys.stderr.write(f"{done:,} of {self.total:,} images, {speed:,.0f} images/s, {left} left\n")
            sys.stderr.flush()
