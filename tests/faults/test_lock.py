"""Promise 38: two runs of one name."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toys import At, contents, run, toy

from super_selfish.errors import CheckpointError
from super_selfish.storage.lock import TIMEOUT, RunLock

LOCK = Path("store/run.lock")


def lock(**owner: Any) -> None:
    LOCK.parent.mkdir(exist_ok=True)
    known = {"pid": os.getpid(), "host": os.uname().nodename, "begun": "", "job": "", "restart": "0"}
    LOCK.write_text(json.dumps(known | owner))


def test_38_the_second_run_is_refused_and_changes_nothing() -> None:
    tried: list[str] = []

    def second() -> None:
        before = contents()
        with pytest.raises(CheckpointError, match=rf"process {os.getpid()} .*delete"):
            run(toy())
        assert contents() == before
        tried.append("refused")

    run(toy(), callbacks=[At(5, second)])
    assert tried == ["refused"]
    assert not LOCK.exists()
    run(toy(), epochs=3, resume=True)  # and afterwards the name is free


def test_38_another_process_is_refused_while_it_lives_and_succeeded_when_it_is_killed(caplog: Any) -> None:
    LOCK.parent.mkdir()
    script = "import sys, time; from pathlib import Path; from super_selfish.storage.lock import RunLock\n"
    script += "with RunLock(Path('store/run')): print('locked', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=with_library())
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(CheckpointError, match=f"process {other.pid}"):
            run(toy())
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    assert LOCK.exists()
    run(toy(), epochs=1)
    assert "has died" in caplog.text
    assert not LOCK.exists()


def with_library() -> dict[str, str]:
    import super_selfish

    return os.environ | {"PYTHONPATH": str(Path(super_selfish.__file__).parents[1])}


def test_a_process_that_has_the_number_of_a_dead_one_is_another() -> None:
    parent = os.getppid()
    lock(pid=parent, begun="1")
    with RunLock(Path("store/run")):
        assert json.loads(LOCK.read_text())["pid"] == os.getpid()


def test_of_another_computer_what_is_silent_for_long_is_dead() -> None:
    lock(host="elsewhere", pid=1)
    with pytest.raises(CheckpointError, match="on elsewhere"), RunLock(Path("store/run")):
        pass
    long_ago = time.time() - TIMEOUT - 1
    os.utime(LOCK, (long_ago, long_ago))
    with RunLock(Path("store/run")):
        pass


def test_a_job_that_was_put_back_into_the_queue_takes_its_own_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    lock(host="elsewhere", pid=1, job="77")
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    with pytest.raises(CheckpointError), RunLock(Path("store/run")):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with pytest.raises(CheckpointError), RunLock(Path("store/run")):
        pass  # another node of the same start
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with RunLock(Path("store/run")):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": true}', '{"pid": 1e99}', "\xff" * 9])
def test_a_damaged_lock_is_nobodys(text: str) -> None:
    LOCK.parent.mkdir()
    LOCK.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match="delete"), RunLock(Path("store/run")):
        pass  # somebody may be writing it
    os.utime(LOCK, (1, 1))
    with RunLock(Path("store/run")):
        pass
    assert not LOCK.exists()


def test_a_sign_of_life_is_given_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from super_selfish.storage import lock as module

    monkeypatch.setattr(module, "HEARTBEAT", 0.0)

    def age() -> None:
        os.utime(LOCK, (1, 1))

    def look() -> None:
        assert LOCK.stat().st_mtime > 1

    run(toy(), epochs=1, callbacks=[At(2, age), At(3, look)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_worker_that_outlives_its_training_does_not_hold_the_lock() -> None:
    ready, tell_ready = os.pipe()
    training = os.fork()
    if training == 0:
        with RunLock(LOCK.parent / "run"):
            worker = os.fork()
            if worker == 0:
                time.sleep(60)
                os._exit(0)
            os.write(tell_ready, worker.to_bytes(4, "little"))
            time.sleep(60)
        os._exit(0)
    worker = int.from_bytes(os.read(ready, 4), "little")
    try:
        os.kill(training, signal.SIGKILL)
        os.waitpid(training, 0)
        with RunLock(LOCK.parent / "run"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_file_system_without_locks_is_left_to_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with RunLock(Path("store/run")), pytest.raises(CheckpointError, match="delete"), RunLock(Path("store/run")):
        pass
    lock(pid=2**30)
    with pytest.raises(CheckpointError), RunLock(Path("store/run")):
        pass
    os.utime(LOCK, (1, 1))
    with RunLock(Path("store/run")):
        pass


@pytest.mark.parametrize("deleted", [False, True])
def test_nothing_is_left_behind(deleted: bool) -> None:
    LOCK.parent.mkdir()
    with RunLock(Path("store/run")):
        if deleted:
            LOCK.unlink()
        for _ in range(2):
            with pytest.raises(CheckpointError), RunLock(Path("store/run")):
                pass
        assert LOCK.exists() != deleted
    assert not list(LOCK.parent.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_that_leaves_the_block_does_not_release_the_lock() -> None:
    LOCK.parent.mkdir()
    with RunLock(Path("store/run")) as held:
        if (child := os.fork()) == 0:
            held.__exit__()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert LOCK.exists()
        with pytest.raises(CheckpointError), RunLock(Path("store/run")):
            pass


@pytest.mark.promise(7)
def test_a_full_disk_leaves_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    LOCK.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", full)
        with pytest.raises(CheckpointError, match="No space"), RunLock(Path("store/run")):
            pass
    assert not list(LOCK.parent.iterdir())
