"""Lists of image files with what was found out about them: ``check --write``, ``extract`` and ``predict``."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import cast

from tqdm import tqdm
from typing_extensions import Self

from super_selfish.cli.shared_flags import NetworkFlags, ReadingFlags
from super_selfish.datasets.file_sources import FileSource
from super_selfish.datasets.preprocessing import ImageDataset
from super_selfish.datasets.sources import open_source
from super_selfish.datasets.survey import Survey
from super_selfish.datasets.tables import TableRows, as_csv, write_table
from super_selfish.engine.callbacks.progress import duration
from super_selfish.engine.label import LabelSupervisor
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.evaluation.classification import classes_of, prediction_batches
from super_selfish.evaluation.extraction import write_features
from super_selfish.files import base_path, check_writable, replacing, with_suffix
from super_selfish.images.image_files import printable

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


def extract(name: str, data: str, output: str | None, reading: ReadingFlags, network: NetworkFlags) -> str:
    """Write features and a table of the images, and describe both; see ``super-selfish extract``."""
    reading.check()
    base = with_suffix(base_path(name), ".features") if output is None else base_path(output.removesuffix(".npy"))
    supervisor = network.load(name)
    check_writable(base, "output")
    images = ImageDataset.from_(data, supervisor.preprocessing)
    with ImageProgress(len(images)) as progress:
        written = write_features(
            supervisor.get_backbone(),
            images,
            base,
            weights=str(supervisor.stored.get("sha256")),
            report=progress.show,
            **dataclasses.asdict(reading),
        )
    skipped = f" {written.images - written.rows:,} images could not be read." if written.rows < written.images else ""
    return (
        f"Written to {written.features}: {written.rows:,} rows of {written.dimensions:,} features, float32.\n"
        f"Written to {written.table}: the image of each row.{skipped}"
    )


def predict(name: str, data: str, output: str | None, reading: ReadingFlags, network: NetworkFlags) -> str:
    """Write predicted classes of images batch by batch, and describe them; see ``super-selfish predict``."""
    reading.check()
    target = check_table("output", output or str(with_suffix(base_path(name), ".predictions.csv")))
    supervisor = network.load(name)
    if not isinstance(supervisor, LabelSupervisor):
        raise ConfigurationError(
            f"`{name}` was trained without labels, so it predicts no classes.",
            expected="a network trained with labels, by LabelSupervisor in Python",
            received=type(supervisor).__name__,
            fix="super-selfish extract writes its features.",
        )
    images = ImageDataset.from_(data, supervisor.preprocessing)
    classes = classes_of(supervisor.model)
    lines, counts = TableRows(cast(FileSource, images.source), target), Counter[str]()
    header = ["path", "predicted", "probability", *(f"p_{each}" for each in classes)]
    with ImageProgress(len(images)) as progress, replacing(target) as temporary, temporary.open("wb") as file:
        file.write(as_csv([header]))
        progress.show(0)
        for batch in prediction_batches(supervisor.model, images, **dataclasses.asdict(reading)):
            labels = [classes[label] for label in batch.probabilities.argmax(1)]
            numbers = [[round(float(value), 6) for value in row] for row in batch.probabilities]
            rows = zip(batch.indices, labels, numbers, strict=True)
            file.write(as_csv([lines.row(index)[0], label, max(row), *row] for index, label, row in rows))
            counts.update(labels)
            progress.show(batch.end)
    counted = ", ".join(f"{printable(label)} {count:,}" for label, count in counts.most_common())
    skipped = len(images) - counts.total()
    left_out = f" {skipped:,} images could not be read." if skipped else ""
    return f"{counts.total():,} images: {counted}\nWritten to {target}.{left_out}"


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
