"""Promises 6, 27, 32 and 33: files that somebody else wrote, or that were damaged, are read or refused, nothing else.

Hypothesis makes them up; what it finds once stays here as an ``@example``.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import logging
import random
import resource
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from safetensors import safe_open
from safetensors.torch import save_file
from toys import At, contents, digest, run, toy

import super_selfish
from super_selfish.errors import CheckpointError, DataError, SuperSelfishError
from super_selfish.images.image_files import read_header, read_image
from super_selfish.models import SmallResNet
from super_selfish.storage.checkpoint import StoredCheckpoint, _digest
from super_selfish.storage.checkpoint_folder import CheckpointFolder

MANY = settings(
    max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
SOME = settings(MANY, max_examples=50)
"""The same examples every time: a suite that fails by chance is not trusted."""

EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.floats(0, 1, exclude_max=True), st.integers(0, 255)),
        st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True), st.just(0)),
        st.tuples(st.just("drop"), st.floats(0, 1, exclude_max=True), st.integers(1, 40)),
        st.tuples(st.just("repeat"), st.floats(0, 1, exclude_max=True), st.integers(1, 40)),
    ),
    min_size=1,
    max_size=6,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def edited(content: bytes, edits: list[tuple[str, float, int]]) -> bytes:
    data = bytearray(content)
    for kind, where, value in edits:
        place = int(where * len(data))
        if kind == "set" and data:
            data[place] = value
        elif kind == "cut":
            del data[place:]
        elif kind == "drop":
            del data[place : place + value]
        else:
            data[place:place] = data[place : place + value]
    return bytes(data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with two checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    run(toy(embedding_size=16, queue_size=64), epochs=1, checkpoint_every=2, name=folder / "run")
    assert len(CheckpointFolder(folder / "run").steps()) == 2
    return folder


@pytest.fixture(autouse=True)
def nothing_else_happens(tmp_path: Path) -> Iterator[None]:
    """No file appears anywhere near, and memory stays what it was."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logging.disable(
        logging.CRITICAL
    )  # pytest keeps records, these the errors, and those the frames that they came from
    beside = sorted(tmp_path.parent.iterdir())
    yield
    logging.disable(logging.NOTSET)
    assert sorted(tmp_path.parent.iterdir()) == beside
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) < 400 << 10  # KiB on Linux


class TestCheckpoints:
    @SOME
    @given(place=st.integers(0, 50), edits=EDITS)
    def test_32_any_damage_is_found(self, trained: Path, place: int, edits: list[tuple[str, float, int]]) -> None:
        work = Path("copy")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(trained, work)
        gc.collect()
        newest, older = CheckpointFolder(work / "run").checkpoint_paths()
        files = sorted(newest.iterdir())
        file = files[place % len(files)]
        content = file.read_bytes()
        file.write_bytes(edited(content, edits))
        found = CheckpointFolder(work / "run").newest_valid()
        assert found is not None
        same = file.suffix == ".json" and parsed(file.read_bytes()) == parsed(content)  # white space, say
        assert found.path == newest if file.read_bytes() == content else found.path == older or same

    @SOME
    @given(
        part=st.sampled_from(["trees.json", "manifest.json"]), tree=JSON, key=st.integers(0, 40), signed=st.booleans()
    )
    def test_32_any_tree_is_read_or_refused(self, trained: Path, part: str, tree: Any, key: int, signed: bool) -> None:
        """Whoever can write files can sign them: what is in them is then as they say, or refused."""
        work = Path("copy")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(trained, work)
        gc.collect()
        newest = CheckpointFolder(work / "run").checkpoint_paths()[0]
        path = newest / part
        values = json.loads(path.read_text())
        places = list(walk(values))
        where = places[key * 7919 % len(places)]
        changed = replaced(values, where, tree)
        path.write_text(json.dumps(changed), encoding="ascii")
        if signed:
            sign(newest)
        before = contents("copy")
        for_all_parts(newest)
        supervisor = toy(embedding_size=16, queue_size=64)
        with contextlib.suppress(SuperSelfishError):
            run(supervisor, epochs=1, checkpoint_every=0, name=work / "run", resume=True)
        after = contents("copy")
        assert {name: after[name] for name in before if ".ckpt" in name} == {
            name: content for name, content in before.items() if ".ckpt" in name
        }


def parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def for_all_parts(newest: Path) -> None:
    with contextlib.suppress(CheckpointError):
        stored = StoredCheckpoint(newest)
        for name in stored.parts:
            stored.read(name)


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from walk(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def sign(folder: Path) -> None:
    """Make size and hashes of all files right again."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    if not isinstance(manifest, dict):
        return
    files = manifest.get("files")
    for name in files if isinstance(files, dict) else ():
        inner = folder / name
        if isinstance(files[name], dict) and "\0" not in name and inner.is_file() and inner.parent == folder:
            data = inner.read_bytes()
            files[name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.pop("sha256", None)
    path.write_text(json.dumps({**manifest, "sha256": _digest(manifest)}), encoding="ascii")


class TestWeights:
    @MANY
    @given(edits=EDITS)
    def test_32_damaged_weights_are_refused(self, trained: Path, edits: list[tuple[str, float, int]]) -> None:
        content = (trained / "run.safetensors").read_bytes()
        changed = edited(content, edits)
        Path("run.safetensors").write_bytes(changed)
        if changed == content:
            return
        try:
            loaded = loaded_from("run")
        except SuperSelfishError:
            return
        assert digest(loaded) == digest(loaded_from(trained / "run"))  # white space in the header, say

    @SOME
    @given(tree=JSON, key=st.integers(0, 200))
    def test_33_any_manifest_is_read_or_refused(self, trained: Path, tree: Any, key: int) -> None:
        with safe_open(trained / "run.safetensors", framework="pt") as file:
            manifest = json.loads(file.metadata()["super_selfish"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        places = list(walk(manifest))
        manifest = replaced(manifest, places[key * 7919 % len(places)], tree)
        save_file(tensors, "run.safetensors", metadata={"super_selfish": json.dumps(manifest), "format": "pt"})
        try:
            loaded_from("run")
        except SuperSelfishError:
            return


def loaded_from(name: str | Path) -> Any:
    return super_selfish.load(name, backbone=SmallResNet(width=4))


@pytest.mark.parametrize(
    ("algorithm", "count"), [("momentum_contrast", 50), ("instance_discrimination", 12), ("bi_gan", 12)]
)
def test_06_fifty_random_damages(algorithm: str, count: int) -> None:
    """Of every kind, to every kind of file of the newest checkpoint: found, and continued from the one before."""
    run(toy(algorithm), epochs=2, name="store/straight")

    def stop() -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(toy(algorithm), epochs=2, checkpoint_every=1, name="store/whole", callbacks=[At(5, stop)])
    chance = random.Random(algorithm)
    straight = contents_of("store/straight")
    newest = CheckpointFolder(Path("store/whole")).checkpoint_paths()[0]
    names = sorted(path.name for path in newest.iterdir())
    for turn in range(count):
        shutil.rmtree("store/hurt.ckpt", ignore_errors=True)
        shutil.copytree("store/whole.ckpt", "store/hurt.ckpt")
        damage(CheckpointFolder(Path("store/hurt")).checkpoint_paths()[0] / names[turn % len(names)], chance)
        found = CheckpointFolder(Path("store/hurt")).newest_valid()
        assert found is not None
        assert found.step == 4, f"damage {turn} to {names[turn % len(names)]} was not found"
        run(toy(algorithm), epochs=2, checkpoint_every=1, name="store/hurt", resume=True)
        assert contents_of("store/hurt") == straight


def contents_of(name: str) -> str:
    return digest(loaded_from(name))


def damage(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    kind = chance.choice(["bit", "byte", "cut", "longer", "empty", "zeros", "gone", "folder", "other"])
    if kind == "bit":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        place = chance.randrange(len(data))
        data[place] = (data[place] + chance.randint(1, 255)) % 256
    elif kind == "cut":
        del data[chance.randrange(len(data)) :]
    elif kind == "longer":
        data += b"\0" * chance.randint(1, 4096)
    elif kind == "empty":
        data.clear()
    elif kind == "zeros":
        data[:] = bytes(len(data))
    elif kind == "other":
        data[:] = chance.randbytes(len(data))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes(data)


def encoded(kind: str, **options: Any) -> bytes:
    array = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    stream = io.BytesIO()
    Pillow.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def deep_png() -> bytes:
    cv2 = pytest.importorskip("cv2")
    return bytes(cv2.imencode(".png", np.random.default_rng(0).integers(0, 65536, (24, 20, 3), np.uint16))[1])


def bands_tiff() -> bytes:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.random.default_rng(0).integers(0, 65536, (24, 20, 13), np.uint16))
    return stream.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded("JPEG"),
    "progressive": lambda: encoded("JPEG", progressive=True),
    "png": lambda: encoded("PNG"),
    "webp": lambda: encoded("WEBP"),
    "bmp": lambda: encoded("BMP"),
    "tiff": lambda: encoded("TIFF"),
    "deflated tiff": lambda: encoded("TIFF", compression="tiff_deflate"),
    "gif": lambda: encoded("GIF"),
    "jpeg 2000": lambda: encoded("JPEG2000"),
    "ppm": lambda: encoded("PPM"),
    "avif": lambda: encoded("AVIF"),
    "deep png": deep_png,
    "bands": bands_tiff,
}


HEADS = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\0",
    b"MM\0*",
    b"RIFF\x20\0\0\0WEBP",
    b"BM",
    b"GIF89a",
    b"\xff\x4f\xff\x51",
    b"P6 9 9 ",
]


@pytest.mark.parametrize("kind", FORMATS)
@MANY
@given(edits=EDITS)
def test_27_any_image_is_read_or_refused(kind: str, edits: list[tuple[str, float, int]]) -> None:
    path = Path("x.jpg")
    path.write_bytes(edited(FORMATS[kind](), edits))
    for read in (read_header, read_image):
        with contextlib.suppress(DataError):
            image = read(path, max_pixels=1 << 20)
            assert read is read_header or (image.ndim == 3 and image.dtype in (np.uint8, np.uint16, np.float32))


@MANY
@given(head=st.sampled_from(HEADS), rest=st.binary(max_size=200))
def test_27_any_bytes_are_refused(head: bytes, rest: bytes) -> None:
    path = Path("x.png")
    path.write_bytes(head + rest)
    for read in (read_header, read_image):
        with contextlib.suppress(DataError):
            read(path, max_pixels=1 << 20)


@pytest.mark.parametrize("size", [(1 << 31, 1 << 31), (1 << 16, 1 << 16), (100_000, 900)])
def test_28_a_picture_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    header = struct.pack(">II", min(size[0], (1 << 31) - 1), min(size[1], (1 << 31) - 1)) + bytes([8, 2, 0, 0, 0])

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    Path("x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    for read in (read_header, read_image):
        with pytest.raises(DataError, match=r"max_pixels|damaged|not"):
            read(Path("x.png"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10
