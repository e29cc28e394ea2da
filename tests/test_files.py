"""Atomic file writes: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from super_selfish.errors import CheckpointError, ConfigurationError
from super_selfish.files import (
    base_path,
    check_writable,
    keep_previous,
    replacing,
    sha256_of,
    with_suffix,
    write_text,
)


def test_failed_write_keeps_the_old_file() -> None:
    target = Path("folder/file.txt")
    write_text(target, "old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("partial")
            raise RuntimeError("failure")

    with pytest.raises(RuntimeError, match="failure"):
        fail()
    assert target.read_text() == "old"
    assert os.listdir("folder") == ["file.txt"]  # noqa: PTH208


@pytest.mark.promise(5)
def test_file_is_flushed_before_the_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def recorded_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    write_text(Path("file.txt"), "new")
    assert events == ["file", "rename", "folder"]


@pytest.mark.promise(7)
def test_full_disk_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(Path("file.txt"), "old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write_text(Path("file.txt"), "new")
    assert Path("file.txt").read_text() == "old"
    assert os.listdir() == ["file.txt"]  # noqa: PTH208


def test_permissions_follow_the_umask() -> None:
    before = os.umask(0o027)
    try:
        write_text(Path("file.txt"), "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("file.txt").stat().st_mode) == 0o640


def test_keep_previous() -> None:
    target = Path("file.txt")
    assert keep_previous(target) is None
    for text in ("one", "two", "three"):
        write_text(target, text)
        previous = keep_previous(target)
        assert previous == Path("file.txt.prev")
        assert previous.read_text() == text
    write_text(target, "four")
    assert previous.read_text() == "three"
    assert sha256_of(previous) == "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"


@pytest.mark.promise(35)
def test_base_path() -> None:
    assert base_path("store/base.safetensors") == Path("store/base")
    assert with_suffix(base_path("store/v1.2"), ".json") == Path("store/v1.2.json")
    for bad in ("", "  ", "store/", "a\0b", ".", "..", ".safetensors", "store/.."):
        with pytest.raises(ConfigurationError, match="name"):
            base_path(bad)


@pytest.mark.promise(8)
def test_check_writable() -> None:
    Path("taken").write_text("a file, not a folder")
    with pytest.raises(ConfigurationError, match="name"):
        check_writable(Path("taken/base"))
    Path("store/base.safetensors").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="folder"):
        check_writable(Path("store/base"))
    with pytest.raises(ConfigurationError, match="too long"):
        check_writable(Path("new/folder", "x" * 240))
    check_writable(Path("new/folder/base"))
    assert os.listdir("new/folder") == []  # noqa: PTH208
