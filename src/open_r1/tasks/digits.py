"""The task `digits`, after r1_vlm: list or sum the one to three handwritten digits of a picture.

Rows 2k and 2k+1 share image k: the sorted list, then the sum. Row i depends only on (seed, split, i), so a longer
dataset starts with the shorter one. Train and held-out images use disjoint sets of source digits.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

IMAGE_WH = (112, 56)  # pixels; a multiple of 28, so Qwen's processor keeps it as it is
DIGIT_PX = 34  # side of one digit before jitter; three fit side by side
HELD_OUT_DIGITS_EVERY = 5  # each fifth source digit of a class is held out

QUESTIONS: Mapping[str, str] = {
    "list": "What digits are in this image? I need the digits in a list sorted from lowest to highest.",
    "sum": "What is the sum of the digits in this image?",
}


@dataclass(frozen=True)
class HandwrittenDigits:
    """Source pictures of handwritten digits: `images` (N, H, W) uint8, white on black; `labels` (N,) in 0..9."""

    images: np.ndarray
    labels: np.ndarray

    def split(self, held_out: bool) -> "HandwrittenDigits":
        """The held-out fifth of each class, or the other four."""
        rank = np.zeros(len(self.labels), dtype=int)
        for digit in range(10):
            rows = np.flatnonzero(self.labels == digit)
            rank[rows] = np.arange(len(rows))
        keep = (rank % HELD_OUT_DIGITS_EVERY == 0) == held_out
        return HandwrittenDigits(self.images[keep], self.labels[keep])


def uci_source() -> HandwrittenDigits:
    """The 1,797 8x8 digits beside this file, with values 0..16: the test set of UCI's Optical Recognition of
    Handwritten Digits (Alpaydin and Kaynak 1998, CC BY 4.0), in the order in which scikit-learn ships it.

    The file replaces scikit-learn, which transformers would import where it is installed (a second at each start).
    """
    with np.load(Path(__file__).with_name("optdigits.npz")) as file:
        return HandwrittenDigits((file["images"] * (255 / 16)).astype(np.uint8), file["labels"].astype(int))


def mnist_source(folder: Path) -> HandwrittenDigits:
    """The first `*images-idx3-ubyte*` and `*labels-idx1-ubyte*` of a folder, gzipped or not (LeCun's idx format).

    Raises FileNotFoundError where one is missing and ValueError where a file is not idx.
    """
    images = _read_idx(folder, "*images*idx3-ubyte*", magic=0x803)
    labels = _read_idx(folder, "*labels*idx1-ubyte*", magic=0x801)
    return HandwrittenDigits(images, labels.astype(int))


def _read_idx(folder: Path, pattern: str, magic: int) -> np.ndarray:
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(f"{folder}: no file {pattern}; --mnist takes a folder with the MNIST idx files")
    raw = files[0].read_bytes()
    data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    if int.from_bytes(data[:4], "big") != magic:
        raise ValueError(f"{files[0]}: got magic {data[:4].hex()}, expected {magic:08x} (an idx file)")
    dims = magic & 0xFF
    shape = [int.from_bytes(data[4 + 4 * k : 8 + 4 * k], "big") for k in range(dims)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def draw_digits(digits: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """One to three source digits (k, H, W), left to right on black with small random turns, sizes and places."""
    canvas = np.zeros((IMAGE_WH[1], IMAGE_WH[0]), np.uint8)
    slot = IMAGE_WH[0] / len(digits)
    for k, digit in enumerate(digits):
        side = int(DIGIT_PX * rng.uniform(0.9, 1.08))
        glyph = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
        glyph = np.asarray(glyph.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR))
        x = int(k * slot + rng.uniform(0.2, 0.8) * (slot - side))
        y = int(rng.uniform(0.1, 0.9) * (IMAGE_WH[1] - side))
        patch = canvas[y : y + side, x : x + side]
        np.maximum(patch, glyph[: patch.shape[0], : patch.shape[1]], out=patch)
    return Image.fromarray(canvas).convert("RGB")


def digits_answer(kind: str, digits: list[int]) -> str:
    """The gold answer of a question.

    >>> digits_answer("list", [7, 2, 4]), digits_answer("sum", [7, 2, 4])
    ('[2, 4, 7]', '13')
    """
    return str(sorted(digits)) if kind == "list" else str(sum(digits))


@dataclass(frozen=True)
class DigitImages:
    """One to three digits in a picture, and both questions about them."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")
    mnist: str | None = field(default=None, metadata={"help": "Folder with MNIST idx files instead of UCI's digits."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng, source = example_rng(seed, self.splits, split, index), source_of(self.mnist, split == "heldout")
        places = rng.integers(len(source.labels), size=rng.integers(1, 4))
        digits = source.labels[places].tolist()
        questions = (
            TaskQuestion(question, digits_answer(kind, digits), {"kind": kind, "digits": digits})
            for kind, question in QUESTIONS.items()
        )
        return DrawnExample((draw_digits(source.images[places], rng),), tuple(questions))


@cache
def source_of(mnist: str | None, held_out: bool) -> HandwrittenDigits:
    """The digits of a split, from a folder of MNIST's where one is given."""
    return (mnist_source(Path(mnist)) if mnist else uci_source()).split(held_out)


DIGITS = Task(
    name="digits",
    method="digits",
    prompts={
        "think": "{question} First think in <think> </think> tags, then give the final answer in <answer> </answer> "
        "tags, for example <answer>[0, 1]</answer> or <answer>1</answer>.",
        "direct": "{question} Give the final answer in <answer> </answer> tags, for example <answer>[0, 1]</answer> "
        "or <answer>1</answer>.",
    },
    generator=DigitImages,
)
