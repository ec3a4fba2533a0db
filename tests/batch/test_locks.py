"""One slide is worked on by one run at a time, and a dead run holds nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from wsi_cam.batch.locks import clear_locks, shared_files_lock, try_slide_lock


def test_a_lock_is_held_by_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    held = try_slide_lock(tmp_path, "s")
    assert held is not None
    assert try_slide_lock(tmp_path, "s") is None
    other = try_slide_lock(tmp_path, "t")
    assert other is not None
    other.release()
    held.release()
    held.release()
    again = try_slide_lock(tmp_path, "s")
    assert again is not None
    again.release()
    clear_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_free_and_swept_away(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from wsi_cam.batch.locks import try_slide_lock\n"
        "held = try_slide_lock(Path(sys.argv[1]), 's'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert try_slide_lock(tmp_path, "s") is None
        clear_locks(tmp_path)
        assert (tmp_path / ".locks" / "s.lock").exists(), "a lock that is held is left alone"
        other.kill()
        other.wait()
    assert (tmp_path / ".locks" / "s.lock").exists()
    held = try_slide_lock(tmp_path, "s")
    assert held is not None
    held.release()
    clear_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_threads_that_make_and_remove_one_lock_are_never_inside_together(tmp_path: Path) -> None:
    """Each release removes the file that the others may have open, and the folder now and then."""
    inside, most, entered = 0, 0, 0

    def enter_again_and_again() -> None:
        nonlocal inside, most, entered
        for round_ in range(40):
            with shared_files_lock(tmp_path):
                inside += 1
                most = max(most, inside)
                entered += 1
                inside -= 1
            if round_ % 10 == 0:
                clear_locks(tmp_path)

    threads = [threading.Thread(target=enter_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, entered) == (1, 160)
