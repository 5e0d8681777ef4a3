"""The digits dataset: each row depends on (seed, i) alone, and held-out images share no source digit with training."""

import json

import numpy as np
import pytest
from helpers.repository import make_dataset

from open_r1.tasks.digits import DigitImages, draw_digits, mnist_source, uci_source


def test_rows_depend_on_seed_and_index_alone(tmp_path):
    for name, rows, seed in (("short", 10, 0), ("long", 31, 0), ("other", 10, 1)):
        make_dataset("digits", tmp_path / name, "--rows", rows, "--heldout_rows", 4, "--seed", seed)
    lines = {n: (tmp_path / n / "train.jsonl").read_text().splitlines() for n in ("short", "long", "other")}
    assert [len(lines[n]) for n in ("short", "long")] == [10, 31]
    assert lines["long"][:10] == lines["short"] != lines["other"]
    image = json.loads(lines["short"][9])["image"]
    assert (tmp_path / "short" / image).read_bytes() == (tmp_path / "long" / image).read_bytes()


def test_held_out_digits_are_disjoint_and_of_every_class():
    source = uci_source()
    train, held_out = source.split(False), source.split(True)
    assert len(train.labels) + len(held_out.labels) == len(source.labels) == 1797
    assert set(held_out.labels) == set(train.labels) == set(range(10))
    assert not {image.tobytes() for image in held_out.images} & {image.tobytes() for image in train.images}


def test_gold_answers_are_the_digits_drawn():
    for index in range(50):
        in_list, in_sum = DigitImages().example(3, "train", index).questions
        digits = in_list.extra["digits"]
        assert 1 <= len(digits) <= 3
        assert json.loads(in_list.answer) == sorted(digits)
        assert int(in_sum.answer) == sum(digits)


def test_digits_are_white_on_black_and_all_inside():
    source = uci_source()
    rng = np.random.default_rng(0)
    picture = np.asarray(draw_digits(source.images[:3], rng))
    assert picture.shape == (56, 112, 3)
    assert (picture == 0).mean() > 0.5 and picture.max() > 200


def test_mnist_folder(shared):
    source = mnist_source(shared / "digits")
    assert source.images.shape == (10000, 28, 28) and source.labels.max() == 9


def test_a_folder_without_mnist_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="--mnist takes a folder"):
        mnist_source(tmp_path)
    (tmp_path / "x-images-idx3-ubyte").write_bytes(b"not idx at all")
    with pytest.raises(ValueError, match="expected 00000803"):
        mnist_source(tmp_path)
