"""Damaged images and bombs either load or are refused with their row; `tests/torture/images.py` opens 2,000."""

import random
from pathlib import Path

import pytest
from helpers.cpu_time import cpu_seconds
from helpers.damaged_images import BOMBS, VALID, damaged, open_outcome, saved, valid
from PIL import Image

from open_r1.data import images
from open_r1.data.images import open_image

FILES = 115  # five of each kind
LOAD = {  # what is within the limits
    "png of 63 million pixels, 16 bit",
    "png of 63 million pixels, alpha",
    "gif of 20,000 frames",
    "tiff of 20,000 directories",
    "tiff of 16,000 tags",
    "tiff whose directory follows itself",
    "jpeg of 63 million pixels without them",
}
LARGE = {name for name in BOMBS if "63 million" in name or "81 million" in name}  # seconds to make or to read


@pytest.mark.parametrize("name", VALID)
def test_the_files_that_are_damaged_are_good_before(name: str, tmp_path: Path) -> None:
    assert open_outcome(tmp_path, valid(name)) == "loads"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata that it skips
def test_damaged_files_load_or_are_refused_with_their_row(tmp_path: Path) -> None:
    outcome = [open_outcome(tmp_path, damaged(index)[1]) for index in range(FILES)]
    assert 0.1 * FILES < outcome.count("loads") < 0.8 * FILES


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in BOMBS])
def test_a_bomb_is_refused_or_opened_in_less_than_two_seconds(name: str, tmp_path: Path) -> None:
    data, outcomes = BOMBS[name](), []
    seconds = cpu_seconds(lambda: outcomes.append(open_outcome(tmp_path, data)), 2)
    print(f"{name}: {seconds:.2f} s")
    assert seconds < 2
    assert (outcomes[0] == "loads") == (name in LOAD), outcomes[0]


def test_a_jpeg_of_many_scans_is_refused_and_an_ordinary_progressive_one_is_not(tmp_path: Path) -> None:
    outcome = open_outcome(tmp_path, BOMBS["jpeg of 2,000 scans of 63 million pixels"]())
    assert "a JPEG of 2006 scans, expected at most 100; save the image anew" in outcome
    noise = Image.frombytes("RGB", (300, 300), random.Random(0).randbytes(270_000))
    assert open_outcome(tmp_path, saved(noise, "JPEG", progressive=True)) == "loads"


def test_a_header_of_millions_of_parts_is_refused(tmp_path: Path) -> None:
    assert "a damaged image (OSError: over 100000 parts)" in open_outcome(
        tmp_path, BOMBS["gif of 60 MB of tiny parts"]()
    )


def test_grey_levels_are_scaled_the_same_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(valid("png 16 bit"))
    whole = open_image(str(tmp_path), "a").tobytes()
    monkeypatch.setattr(images, "_STRIP_ROWS", 7)
    assert open_image(str(tmp_path), "a").tobytes() == whole
