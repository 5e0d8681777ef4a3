"""What a run needs before it begins: an output folder that can be written, and what it says where there is none."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from open_r1.errors import UsageError
from open_r1.trainer.lifecycle import run_lock


def test_a_disk_without_room_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock.shutil, "disk_usage", lambda folder: SimpleNamespace(free=4096))
    with pytest.raises(UsageError, match=r"--output_dir: got .*out, expected .* \(0\.0 MB are free there, and logs"):
        run_lock.acquire_lock(tmp_path / "out")


@pytest.mark.parametrize(
    ("place", "why"), [("a_file/out", "Not a directory"), ("a_file", "File exists"), ("/proc/out", "No such file")]
)
def test_a_place_that_is_no_folder_is_refused_in_one_sentence(tmp_path, place, why):
    (tmp_path / "a_file").touch()
    with pytest.raises(UsageError, match=rf"--output_dir: got .*, expected a folder .* \({why}.*\); make room"):
        run_lock.acquire_lock(tmp_path / place)


def test_a_folder_in_which_a_run_is_going_on_is_refused(tmp_path):
    with (
        run_lock.acquire_lock(tmp_path),
        pytest.raises(UsageError, match=r"where a run is going on \(process"),
    ):
        run_lock.acquire_lock(Path(tmp_path))
