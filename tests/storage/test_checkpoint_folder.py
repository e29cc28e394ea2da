"""There is always a valid checkpoint, also after failures while one is written."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from super_selfish.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, ConfigurationError
from super_selfish.storage import checkpoint_folder as module
from super_selfish.storage.checkpoint import StoredCheckpoint
from super_selfish.storage.checkpoint_folder import CheckpointFolder

FILES = ["manifest.json", "trees.json", "model.safetensors", "optimizer.safetensors"]


def state(step: int) -> dict[str, Any]:
    weights = torch.full((3, 4), float(step))
    return {
        "model": {"weight": weights, "bias": -weights[0]},
        "optimizer": {"state": {0: {"step": torch.tensor(step)}}},
        "cursor": {"epoch": 2, "best": float("inf")},
    }


def at(base: str = "store/base") -> CheckpointFolder:
    return CheckpointFolder(Path(base))


def write(step: int, folder: CheckpointFolder | None = None, mark: str = "", **options: Any) -> Path:
    return (folder or at()).write(step, state(step), {"supervisor": "rotate_net", "mark": mark}, **options)


def check(checkpoint: StoredCheckpoint | None, step: int) -> None:
    """The checkpoint contains exactly the return value of `state` at this step."""
    assert checkpoint is not None
    assert checkpoint.step == step
    assert set(checkpoint.parts) == set(state(step))
    model, expected = checkpoint.read("model"), state(step)["model"]
    assert all(torch.equal(model[key], expected[key]) for key in expected)
    assert int(checkpoint.read("optimizer")["state"][0]["step"]) == step
    assert checkpoint.read("cursor") == state(step)["cursor"]


def tree(root: str | Path = "store") -> dict[str, bytes | None]:
    """All files and folders below a folder, with the content of files."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path(root).rglob("*"))}


def names(root: str = "store/base.ckpt") -> set[str]:
    return {path.name for path in Path(root).iterdir()}


class Killed(BaseException):
    """Simulates SIGKILL: a BaseException, which handlers of errors do not catch."""


class FileSystem:
    """Records all calls that modify the disk, and can make them fail."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.fault: Callable[[int, str], BaseException | None] | None = None

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.fault is None:
            return
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes:
                self.note("open", str(arguments[0]))
        elif event in {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link"}:
            self.note(event.removeprefix("os."), str(arguments[1] if event == "os.rename" else arguments[0]))

    def fsync(self, handle: int) -> None:
        if self.fault is not None:
            self.note("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file", "")

    def note(self, event: str, path: str) -> None:
        assert self.fault is not None
        self.events.append((event, path))
        if error := self.fault(len(self.events), event):
            raise error


DISK = FileSystem()
sys.addaudithook(DISK.audit)  # cannot be removed, and has no effect outside of `recorded`


@contextmanager
def recorded(fault: Callable[[int, str], BaseException | None] = lambda *_: None) -> Iterator[list[tuple[str, str]]]:
    DISK.events, DISK.fault = [], fault
    try:
        yield DISK.events
    finally:
        DISK.fault = None


@pytest.fixture(autouse=True)
def _fsync_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", DISK.fsync)  # without flushing: the disks of test machines are slow


def kill_at_every_call(action: Callable[[], object], verify: Callable[[], object]) -> int:
    """Run an action repeatedly on the same files, killed one call later each time. Returns the number of calls."""
    shutil.copytree("store", "before", symlinks=True)
    for n in range(1, 1000):
        shutil.rmtree("store")
        shutil.copytree("before", "store", symlinks=True)
        with recorded(lambda number, _event, n=n: Killed() if number >= n else None):
            try:
                action()
            except Killed:
                pass
            else:
                return n
        verify()
    raise AssertionError("did not terminate")


def test_write_then_read() -> None:
    folder = at()
    assert folder.newest_valid() is None
    assert folder.steps() == []
    folder.clean()
    assert not Path("store").exists()
    assert write(5, folder) == Path("store/base.ckpt/step-000000000005")
    assert write(12, folder) == Path("store/base.ckpt/step-000000000012")
    assert folder.steps() == [12, 5]
    assert names() == {"step-000000000012", "step-000000000005", "LATEST"}
    assert Path("store/base.ckpt/LATEST").read_text() == "step-000000000012\n"
    for verify in ("full", "size"):
        checkpoint = at().newest_valid(verify)
        check(checkpoint, 12)
    assert checkpoint.path == Path("store/base.ckpt/step-000000000012")
    assert checkpoint.manifest["supervisor"] == "rotate_net"
    assert checkpoint.manifest["previous"] == 5
    assert checkpoint.manifest["seconds"] >= 0
    assert {path.name for path in checkpoint.path.iterdir()} == set(FILES)
    for text in ("step-000000000005", "../../elsewhere", ""):
        Path("store/base.ckpt/LATEST").write_text(text)  # is informational
        check(at().newest_valid(), 12)


def test_manifest_has_hashes_of_all_files() -> None:
    path = write(5, mark="ü")
    manifest = json.loads((path / "manifest.json").read_text())
    assert list(manifest)[-1] == "sha256"
    assert set(manifest["files"]) == {"trees.json", "model.safetensors", "optimizer.safetensors"}
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_manifest_with_non_json_values_and_reserved_keys() -> None:
    odd = {"loss": float("nan"), "rates": {10: (1, 2), 9: None}, "format": 99, "step": 3, "sha256": "x", "files": {}}
    at().write(5, state(5), odd)
    found = at().newest_valid()
    check(found, 5)
    assert found is not None
    assert found.manifest["rates"] == {"10": [1, 2], "9": None}


def test_read_copies_tensors() -> None:
    path = at().write(5, {"model": torch.ones(100_000)}, {}) / "model.safetensors"
    found = at().newest_valid()
    assert found is not None
    weights = found.read("model")
    with path.open("rb+") as file:  # safetensors maps the file into memory
        file.write(bytes(path.stat().st_size))
    assert torch.equal(weights, torch.ones(100_000))


@pytest.mark.promise(39)
def test_keep_limits_the_number_of_checkpoints() -> None:
    folder = at()
    for step in range(1, 6):
        write(step, folder, keep=3)
    assert folder.steps() == [5, 4, 3]
    write(6, folder, keep=1)
    assert names() == {"step-000000000006", "LATEST"}


def test_invalid_arguments_change_nothing() -> None:
    for options in ({"step": -1}, {"keep": 0}):
        with pytest.raises(ConfigurationError, match="step"):
            write(**({"step": 1} | options))
    for part in ("../x", "a/b", "", "A", "manifest.json"):
        with pytest.raises(ConfigurationError, match="part"):
            at().write(1, {part: 1}, {})
    with pytest.raises(TypeError, match=r"`own\.hook` is of type function"):
        at().write(1, {"model": torch.ones(1), "own": {"hook": lambda: 0}}, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        at().write(1, {}, {"x": object()})
    with pytest.raises(ConfigurationError, match="verify"):
        at().newest_valid("no")  # type: ignore[arg-type]
    assert tree() == {}


@pytest.mark.promise(5)
def test_order_of_disk_operations() -> None:
    folder = at()
    write(1, folder, keep=1)
    with recorded() as events:
        write(2, folder, keep=1)
    operations = [event if event.startswith("fsync") else f"{event} {Path(path).name}" for event, path in events]
    commit = operations.index("rename step-000000000002")
    latest = operations.index("rename LATEST")
    files = [index for index, event in enumerate(operations[:commit]) if event == "fsync file"]
    writes = [index for index, event in enumerate(operations[:commit]) if event.startswith("open")]
    assert len(files) == len(FILES)
    assert max(writes) < max(files) < operations.index("fsync folder") < commit
    assert operations[commit + 1] == "fsync folder"
    assert commit + 1 < latest
    removed = [index for index, event in enumerate(operations) if event.startswith("rename .trash-step-000000000001")]
    assert len(removed) == 1
    assert removed[0] > latest
    assert not any(event.startswith("open") and "step-" in path for event, path in events)  # written by rename only


def check_recovery(steps: set[int], new: int) -> None:
    """After a kill, there is a valid checkpoint before and after `clean`; the next write works; nothing remains."""
    found = at().newest_valid()
    assert found is not None
    assert found.step in steps
    check(found, found.step)
    folder = at()
    folder.clean()
    again = folder.newest_valid()
    assert again is not None
    assert again.step in {found.step, new}
    check(again, again.step)
    assert not [name for name in names() if name.startswith(".") or name.endswith(".new")]
    assert not Path("store/base.ckpt.new").exists()
    write(new + 1, folder)
    check(at().newest_valid(), new + 1)


@pytest.mark.promise(3)
@pytest.mark.parametrize("keep", [1, 2])
def test_kill_during_a_write(keep: int, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        write(step, keep=keep)
    calls = kill_at_every_call(lambda: write(3, keep=keep), lambda: check_recovery({2, 3}, 3))
    assert calls > 20
    assert caplog.text == ""


@pytest.mark.promise(3)
def test_kill_during_the_first_write() -> None:
    def verify() -> None:
        folder = at()
        found = folder.newest_valid()
        assert found is None or found.step == 1
        folder.clean()
        write(2, folder)
        assert set(folder.steps()) in ({2}, {1, 2})
        assert names() == {"LATEST", *(f"step-{step:012d}" for step in folder.steps())}

    Path("store").mkdir()
    assert kill_at_every_call(lambda: write(1), verify) > 15


@pytest.mark.promise(3)
@pytest.mark.parametrize("damaged", [False, True])
def test_kill_while_a_step_is_replaced(damaged: bool) -> None:
    write(1, keep=1)
    path = write(2, keep=2 if damaged else 1)
    if damaged:
        (path / "model.safetensors").unlink()

    def again() -> None:
        folder = at()
        found = folder.newest_valid()
        assert found is not None
        assert found.step == (1 if damaged else 2)
        write(2, folder, mark="repeated", keep=1)

    assert kill_at_every_call(again, lambda: check_recovery({1, 2} if damaged else {2}, 2)) > 20
    folder = at()
    assert folder.steps() == [2]
    found = folder.newest_valid()
    assert found is not None
    assert found.manifest["mark"] == "repeated"


def check_replacement() -> None:
    """One of the three folders is always valid; the older training is kept until the new one is complete."""
    shown = {}
    for name in ("base.ckpt", "base.ckpt.new", "base.ckpt.prev"):
        for path in sorted(Path("store", name).glob("step-*")):
            shown[name] = StoredCheckpoint(path).manifest["mark"]
    assert "old" in shown.values()
    assert "new" in shown.values() or shown == {"base.ckpt": "old", "base.ckpt.prev": "oldest"}
    found = at().newest_valid()
    assert found is not None
    folder = at()
    folder.clean()
    assert not Path("store/base.ckpt.new").exists()
    after = folder.newest_valid()
    assert after is not None
    if after.manifest["mark"] == "old":
        assert "new" not in shown.values()
        write(1, folder, mark="new", fresh=True)
    assert {name for name in os.listdir("store")} == {"base.ckpt", "base.ckpt.prev"}  # noqa: C416, PTH208
    check(folder.newest_valid(), 1)
    assert StoredCheckpoint(Path("store/base.ckpt.prev/step-000000000009")).manifest["mark"] == "old"
    assert names() <= {"step-000000000001", "LATEST"}


def older_trainings() -> None:
    write(7, mark="oldest")
    write(9, mark="old", fresh=True)


def test_fresh_training_keeps_the_older_one_as_prev() -> None:
    folder = at()
    assert write(5, folder, fresh=True).is_dir()
    assert names("store") == {"base.ckpt"}  # there was no older training
    write(7, folder)
    folder = at()
    write(2, folder, mark="new", fresh=True)
    assert names("store") == {"base.ckpt", "base.ckpt.prev"}
    assert folder.steps() == [2]
    found = folder.newest_valid()
    check(found, 2)
    assert found is not None
    assert found.manifest["previous"] is None
    assert names("store/base.ckpt.prev") == {"LATEST", "step-000000000005", "step-000000000007"}
    write(3, folder, fresh=True)  # of the same training
    assert folder.steps() == [3, 2]
    write(1, fresh=True)
    assert names("store/base.ckpt.prev") == {"LATEST", "step-000000000002", "step-000000000003"}


@pytest.mark.promise(3)
def test_kill_while_an_older_training_is_moved() -> None:
    older_trainings()
    assert kill_at_every_call(lambda: write(1, mark="new", fresh=True), check_replacement) > 25


@pytest.mark.promise(3)
def test_kill_during_clean_after_a_kill() -> None:
    older_trainings()
    with pytest.raises(Killed), recorded(lambda _number, event: Killed() if event == "fsync folder" else None):
        write(1, mark="new", fresh=True)
    assert kill_at_every_call(lambda: at().clean(), check_replacement) > 1
    shutil.rmtree("before")
    shutil.rmtree("store")
    older_trainings()
    renames: list[int] = []

    def after_the_first_swap(_number: int, event: str) -> BaseException | None:
        renames.extend([1] if event == "rename" else [])
        return Killed() if len(renames) >= 4 else None

    with pytest.raises(Killed), recorded(after_the_first_swap):
        write(1, mark="new", fresh=True)
    assert names("store") == {"base.ckpt.new", "base.ckpt.prev"}
    assert kill_at_every_call(lambda: at().clean(), check_replacement) > 2


def test_folder_without_checkpoints_does_not_replace_prev() -> None:
    older_trainings()
    write(1, mark="new", fresh=True)
    Path("store/base.ckpt").rename("store/base.ckpt.new")  # as after a kill
    Path("store/base.ckpt").mkdir()
    Path("store/base.ckpt/notes").write_text("1")
    at().clean()
    check(at().newest_valid(), 1)
    assert StoredCheckpoint(Path("store/base.ckpt.prev/step-000000000009")).manifest["mark"] == "old"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flip": flip,
    "truncate": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "delete": lambda path: path.unlink(),
    "folder": folder_instead,
    "link": lambda path: path.rename("elsewhere") and path.symlink_to(Path("elsewhere").resolve()),
}


@pytest.mark.promise(6)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_checkpoint_is_skipped(name: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    write(1)
    path = write(2) / name
    DAMAGE[kind](path)
    before = tree()
    folder = at()
    check(folder.newest_valid(), 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    shutil.rmtree("store/base.ckpt/step-000000000001")
    before = tree()
    with pytest.raises(CheckpointCorrupt, match=name):
        folder.newest_valid()
    assert tree() == before
    folder.clean()
    assert tree() == before


@pytest.mark.promise(6)
def test_flipped_bit_in_the_manifest_is_detected() -> None:
    path = write(1) / "manifest.json"
    good = path.read_bytes()
    for position in range(0, len(good), 3):
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 7
        path.write_bytes(damaged)
        if json.loads(good) != _parsed(damaged):  # white space is not verified
            with pytest.raises(CheckpointCorrupt):
                StoredCheckpoint(path.parent)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_verify_size_compares_sizes_only() -> None:
    write(1)
    path = write(2)
    flip(path / "model.safetensors")
    found = at().newest_valid("size")
    assert found is not None
    assert found.step == 2
    (path / "model.safetensors").write_bytes(b"short")
    check(at().newest_valid("size"), 1)


def test_damaged_checkpoint_does_not_count_as_kept() -> None:
    write(1)
    flip(write(5) / "model.safetensors")
    folder = at()
    check(folder.newest_valid(), 1)
    write(2, folder, keep=2)  # the run resumes from step 1
    assert folder.steps() == [5, 2, 1]
    check(folder.newest_valid(), 2)
    write(6, folder, keep=2)
    assert folder.steps() == [6, 5, 2]
    write(7, folder, keep=2)
    assert folder.steps() == [7, 6]


def test_damaged_step_is_replaced() -> None:
    write(1)
    flip(write(5) / "model.safetensors")
    folder = at()
    check(folder.newest_valid(), 1)
    write(5, folder, keep=1)
    assert folder.steps() == [5]
    check(folder.newest_valid(), 5)
    write(2, folder, keep=1)  # the checkpoint that was just written is kept in any case
    assert folder.steps() == [5, 2]


def pending(damaged: bool) -> Path:
    """A replacement of step 2 that a kill interrupted."""
    write(2, mark="new").rename("pending")
    path = write(2, mark="old")
    replacement = Path("pending").rename(f"{path}.new")
    if damaged:
        flip(replacement / "model.safetensors")
    return path


@pytest.mark.parametrize(("damaged", "mark"), [(False, "new"), (True, "old")])
def test_clean_finishes_a_replacement_only_if_it_is_undamaged(damaged: bool, mark: str) -> None:
    path = pending(damaged)
    assert at().steps() == [2]
    found = at().newest_valid()
    assert found is not None
    assert found.manifest["mark"] == mark
    at().clean()
    assert StoredCheckpoint(path).manifest["mark"] == mark
    assert names() == {"LATEST", path.name}


def test_damaged_fresh_training_replaces_nothing() -> None:
    new = write(3)
    flip(new / "model.safetensors")
    Path("store/base.ckpt").rename("store/base.ckpt.new")
    write(2, at("store/other"))
    Path("store/other.ckpt").rename("store/base.ckpt")
    at().clean()
    check(at().newest_valid(), 2)
    assert Path("store/base.ckpt.new", new.name).is_dir()
    shutil.rmtree("store/base.ckpt")
    at().clean()  # it is the only folder
    with pytest.raises(CheckpointCorrupt, match=r"base\.ckpt/step-000000000003/model"):
        at().newest_valid()


def rewrite(path: Path, **changes: Any) -> None:
    """Modify a manifest, with a valid checksum."""
    file = path / "manifest.json"
    manifest = {key: value for key, value in json.loads(file.read_text()).items() if key != "sha256"} | changes
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(manifest | {"sha256": digest}))


@pytest.mark.promise(36)
def test_newer_format_raises() -> None:
    write(1)
    rewrite(write(2), format=2)
    with pytest.raises(CheckpointMismatch, match="newer"):
        at().newest_valid()


@pytest.mark.promise(33)
def test_manifest_cannot_refer_to_files_outside_of_the_folder() -> None:
    path = write(1)
    files = json.loads((path / "manifest.json").read_text())["files"]
    secret = Path("store/base.ckpt/x.safetensors")
    shutil.copy(path / "model.safetensors", secret)
    for name in ("../x.safetensors", str(secret.resolve()), "a/../../x.safetensors", "x", "", "..", "LATEST"):
        rewrite(path, files=files | {name: files["model.safetensors"]})
        with pytest.raises(CheckpointCorrupt, match="not a file"):
            StoredCheckpoint(path)
    for wrong in (None, [], {}, {"model.safetensors": files["model.safetensors"]}, files | {"trees.json": 3}):
        rewrite(path, files=wrong)
        with pytest.raises(CheckpointCorrupt, match="damaged"):
            StoredCheckpoint(path)
    rewrite(path, files=files, step=2)
    with pytest.raises(CheckpointCorrupt, match="step"):
        StoredCheckpoint(path)


def forge(path: Path, name: str, text: str) -> StoredCheckpoint:
    (path / name).write_text(text)
    entry = {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    rewrite(path, files=json.loads((path / "manifest.json").read_text())["files"] | {name: entry})
    return StoredCheckpoint(path)


@pytest.mark.promise(32)
def test_forged_trees_raise() -> None:
    path = write(1)
    shutil.copy(path / "model.safetensors", "store/base.ckpt/model.safetensors")
    found = forge(
        path, "trees.json", json.dumps({"../model": {"$t": "weight"}, "model": {"$t": "absent"}, "x": {"$y": 1}})
    )
    for part in found.parts:
        with pytest.raises(CheckpointCorrupt, match="damaged"):
            found.read(part)
    with pytest.raises(CheckpointMismatch, match="cursor"):
        found.read("cursor")
    for text in ("[" * 100_000, "[]", "nonsense"):
        with pytest.raises(CheckpointCorrupt, match=r"trees\.json"):
            _ = forge(path, "trees.json", text).parts
    found = forge(path, "trees.json", json.dumps({"model": {"$t": "weight"}}))
    for text in ("", "nonsense" * 9, "\xff" * 9):
        with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors"):
            forge(path, "model.safetensors", text.encode("ascii", "replace").decode()).read("model")


@pytest.mark.promise(32)
def test_json_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(1)
    monkeypatch.setattr("super_selfish.storage.checkpoint._JSON_LIMIT", 2000)
    with pytest.raises(CheckpointError, match="larger"):
        at().write(2, {"list": list(range(5000))}, {})
    assert names() == {"LATEST", path.name}
    monkeypatch.setattr("super_selfish.storage.checkpoint._JSON_LIMIT", 100)
    with pytest.raises(CheckpointCorrupt, match="larger"):
        StoredCheckpoint(path)


@pytest.mark.promise(7)
@pytest.mark.parametrize("fresh", [False, True])
def test_full_disk_at_any_call(fresh: bool, caplog: pytest.LogCaptureFixture) -> None:
    def full(number: int, event: str) -> BaseException | None:
        return OSError(errno.ENOSPC, "No space left") if number >= n and event not in {"remove", "rmdir"} else None

    outcomes = []
    for n in range(1, 100):
        folder = at()
        older = {write(1, folder), write(2, folder)}
        before, folder = tree(), at()
        with recorded(full) as events:
            try:
                write(3, folder, fresh=fresh)
            except CheckpointError as error:
                outcomes.append(str(error))
        found = folder.newest_valid()
        check(found, 3 if len(outcomes) < n else found.step if found else 0)
        if len(outcomes) < n and all(event in {"remove", "rmdir"} for event, _ in events[n - 1 :]):
            break
        if len(outcomes) < n:
            outcomes.append("a warning")
            assert "could not be cleaned up" in caplog.text
        elif tree() != before:  # the disk was full after the rename that completes the checkpoint
            assert any(event == "rename" for event, _ in events[: n - 1])
            assert not [path for path in tree() if "/.tmp-" in path]
        caplog.clear()
        write(4, folder, fresh=fresh)  # there is free space again
        check(folder.newest_valid(), 4)
        if fresh:
            older = {Path("store/base.ckpt.prev", path.name) for path in older}
            assert set(Path("store/base.ckpt.prev").glob("step-*")) == older
        shutil.rmtree("store")
    assert "a warning" in outcomes
    refused = [outcome for outcome in outcomes if outcome != "a warning"]
    assert len(refused) > 10
    assert all("No space left" in text for text in refused)


@pytest.mark.promise(7)
def test_tensors_that_do_not_fit_on_the_disk() -> None:
    resource = pytest.importorskip("resource")
    write(1)
    before = tree()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            at().write(2, {"model": torch.zeros(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tree() == before


@pytest.mark.promise(8)
def test_path_that_is_not_a_folder_raises() -> None:
    Path("store").mkdir()
    Path("store/base.ckpt").write_text("a file")
    for call in (lambda: write(1), lambda: at().newest_valid(), lambda: at().steps(), lambda: at().clean()):
        with pytest.raises(CheckpointError, match=r"base\.ckpt"):
            call()
    assert Path("store/base.ckpt").read_text() == "a file"


def test_permissions_follow_the_umask() -> None:
    before = os.umask(0o027)
    try:
        path = write(1)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o640}
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


@pytest.mark.promise(3)
def test_clean_removes_files_of_terminated_processes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(process: int, signal: int) -> None:
        assert signal == 0
        if process != alive:
            raise PermissionError if process == other_user else ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    write(1)
    root, here = Path("store/base.ckpt"), module._HOST
    alive, other_user, terminated = 10_000_001, 10_000_002, 10_000_003  # larger than any process id of Linux
    kept = [
        f".tmp-3-{alive}-{here}-00000000",
        f".trash-step-000000000003-{alive}-{here}-00000000",
        f".tmp-3-{other_user}-{here}-00000000",
        f".tmp-3-{terminated}-ffffffff-00000000",
        ".tmp-of-another-program",
        "notes",
        "step-3",
    ]
    removed = [
        f".tmp-3-{os.getpid()}-{here}-00000000",
        f".tmp-3-{terminated}-{here}-00000000",
        f".trash-step-000000000003-{terminated}-{here}-00000000",
        f".tmp-3-{terminated}-eeeeeeee-00000000",
    ]
    for name in (*kept, *removed):
        (root / name).mkdir()
        (root / name / "file").write_text("x")
    os.utime(root / removed[-1], (0, 0))  # another computer left it long ago
    (root / ".LATEST.abc.tmp").write_text("x")
    at().clean()
    assert names() == {*kept, "LATEST", "step-000000000001"}


def test_failure_to_remove_old_files_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def busy(*_arguments: Any, **_options: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    write(1, keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", busy)
        check(StoredCheckpoint(write(2, keep=1)), 2)
    assert "Device or resource busy" in caplog.text
    at().clean()
    assert names() == {"LATEST", "step-000000000002"}


def test_concurrent_read_and_write(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    write(1, keep=1)
    reader, before = at(), module._stored_in
    pending = [lambda: write(2, keep=1)]

    def slow(root: Path) -> list[Path]:
        found = before(root)
        if pending:
            pending.pop()()  # after the folder is listed, before files are opened
        return found

    monkeypatch.setattr(module, "_stored_in", slow)
    check(reader.newest_valid(), 2)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
