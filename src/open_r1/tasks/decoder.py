"""Shared by both decoding tasks: words, letter codes, the decoder picture, and the generator of coded messages.

After r1_vlm: a message is written in a random code, and the picture shows the code as pairs `X→Y` of a coded
letter X and its plain letter Y. The hash of a word decides its split, so no message of one split contains a word of
another.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import isqrt
from pathlib import Path
from string import ascii_lowercase
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from open_r1.tasks.task import DrawnExample, TaskQuestion, example_rng

SPACE = "_"  # between the words of a message; it is not coded
HELD_OUT_WORDS_EVERY = 5  # about each fifth word is held out
ARROW_FROM = 40  # pixels; narrower cells have no arrow between the letters
DECODING_QUESTION = (
    "The image is a decoder: in each pair, the left letter stands for the right letter. Decode this message: {coded}"
)
_VOWELS = "aeiou"
_TRIES = 10_000


@dataclass(frozen=True)
class CodedMessages:
    """A coded message of one or more words, and the picture of its decoder."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")
    upper: ClassVar[bool] = False

    size: int = field(default=300, metadata={"help": "Width of the picture in pixels; it is no higher than wide."})
    alphabet: int = field(default=26, metadata={"help": "How many letters the code has: the first N, 2 to 26."})
    min_letters: int = field(default=3, metadata={"help": "Letters of the shortest word."})
    max_letters: int | None = field(
        default=None,
        metadata={"help": "Letters of the longest word. Default: a third of the alphabet, or min_letters."},
    )
    max_words: int = field(default=1, metadata={"help": "A message has one to this many words."})
    words: str | None = field(
        default=None,
        metadata={"help": "File with one word a line to draw from. Default: pronounceable words made at random."},
    )
    dark: bool = field(default=False, metadata={"help": "White letters on black."})

    def __post_init__(self) -> None:
        low, high = self.lengths
        if not (2 <= self.alphabet <= 26 and 1 <= low <= high and self.max_words >= 1):
            raise ValueError(
                f"got alphabet {self.alphabet}, min_letters {low}, max_letters {high}, max_words {self.max_words}; "
                "expected 2 <= alphabet <= 26, 1 <= min_letters <= max_letters and 1 <= max_words"
            )

    @property
    def lengths(self) -> tuple[int, int]:
        """Letters of the shortest and of the longest word."""
        longest = max(self.min_letters, self.alphabet // 3) if self.max_letters is None else self.max_letters
        return self.min_letters, longest

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        words = [self._word(rng, split) for _ in range(rng.integers(1, self.max_words + 1))]
        message = SPACE.join(words)
        code = random_code(rng, self._letters, message)
        coded = encode_message(message, code)
        picture = draw_decoder(code, rng, self.size, self.dark)
        question = TaskQuestion(
            DECODING_QUESTION.format(coded=" ".join(coded)), message, {"coded": coded, "message": message}
        )
        return DrawnExample((picture,), (question,))

    @property
    def _letters(self) -> str:
        letters = ascii_lowercase[: self.alphabet]
        return letters.upper() if self.upper else letters

    def _word(self, rng: np.random.Generator, split: str) -> str:
        if self.words is None:
            word = random_word(rng, ascii_lowercase[: self.alphabet], self.lengths, split)
        else:
            words = words_from_file(self.words, ascii_lowercase[: self.alphabet], self.lengths, split)
            word = words[rng.integers(len(words))]
        return word.upper() if self.upper else word


def split_of_word(word: str) -> str:
    """The split of a word, for every seed and case.

    >>> [word for word in ("cat", "dog", "sun", "red", "ice", "bed") if split_of_word(word) == "heldout"]
    ['sun', 'ice']
    """
    number = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8], "big")
    return "heldout" if number % HELD_OUT_WORDS_EVERY == 0 else "train"


def random_word(rng: np.random.Generator, letters: str, lengths: tuple[int, int], split: str) -> str:
    """A random word of `split` with a length within `lengths`; with all 26 letters, consonants and vowels alternate.

    Raises ValueError where such words are too rare in the split.
    """
    consonants = "".join(letter for letter in letters if letter not in _VOWELS)
    for _ in range(_TRIES):
        kinds = [consonants, _VOWELS] if len(letters) == 26 else [letters]
        start, length = int(rng.integers(len(kinds))), int(rng.integers(lengths[0], lengths[1] + 1))
        kinds = [kinds[(start + k) % len(kinds)] for k in range(length)]
        word = "".join(kind[rng.integers(len(kind))] for kind in kinds)
        if split_of_word(word) == split:
            return word
    raise ValueError(
        f"got an alphabet of {len(letters)} and words of {lengths[0]} to {lengths[1]} letters, expected words for the "
        f"split {split!r} among them; raise alphabet or max_letters"
    )


@cache
def words_from_file(path: str, letters: str, lengths: tuple[int, int], split: str) -> Sequence[str]:
    """The words of a file, one a line, that fit letters, lengths and split; lower case, sorted, each once.

    Raises ValueError where no word fits.
    """
    lines = Path(path).read_text(encoding="utf-8").lower().split()
    fitting = sorted({w for w in lines if lengths[0] <= len(w) <= lengths[1] and set(w) <= set(letters)})
    words = tuple(word for word in fitting if split_of_word(word) == split)
    if not words:
        raise ValueError(
            f"{path}: got no word for the split {split!r}, expected words of {lengths[0]} to {lengths[1]} letters "
            f"{letters[0]} to {letters[-1]}, one a line; correct the file or the options"
        )
    return words


def random_code(rng: np.random.Generator, letters: str, message: str) -> dict[str, str]:
    """A random bijection of `letters`, plain letter -> coded letter, that changes the message.

    >>> code = random_code(np.random.default_rng(0), "abcd", "ab")
    >>> sorted(code.values()), encode_message("ab", code) != "ab"
    (['a', 'b', 'c', 'd'], True)
    """
    while True:
        code = dict(zip(letters, (letters[i] for i in rng.permutation(len(letters))), strict=True))
        if encode_message(message, code) != message:
            return code


def encode_message(message: str, code: Mapping[str, str]) -> str:
    """The message in code; characters without a code (`_`) stay.

    >>> encode_message("cab_a", {"a": "x", "b": "y", "c": "z"})
    'zxy_x'
    """
    return "".join(code.get(letter, letter) for letter in message)


def decoder_grid(count: int, size: int) -> tuple[int, int, float, float]:
    """(columns, rows, cell width, cell height) for `count` pairs in a picture `size` pixels wide: 26 pairs fill a
    5x5 grid and one cell below. Cells are square unless the picture would be higher than wide.

    >>> decoder_grid(26, 300), decoder_grid(6, 84)
    ((5, 6, 60.0, 50.0), (3, 2, 28.0, 28.0))
    """
    columns = min(count, max(3, isqrt(count)))
    rows = -(-count // columns)
    return columns, rows, size / columns, min(size / columns, size / rows)


def draw_decoder(code: Mapping[str, str], rng: np.random.Generator, size: int, dark: bool) -> Image.Image:
    """The pairs `coded→plain` in random order on a grid, a last row with gaps in the middle; RGB, `size` wide."""
    columns, rows, width, height = decoder_grid(len(code), size)
    ground, ink = (0, 255) if dark else (255, 0)
    picture = Image.new("L", (size, round(rows * height)), ground)
    pen, pairs = ImageDraw.Draw(picture), list(code.items())
    for place, chosen in enumerate(rng.permutation(len(pairs))):
        plain, coded = pairs[chosen]
        row, column = divmod(place, columns)
        missing = columns - min(columns, len(pairs) - row * columns)
        _draw_pair(pen, coded, plain, ((column + missing / 2) * width, row * height, width, height), ink)
    return picture.convert("RGB")


def _draw_pair(pen: ImageDraw.ImageDraw, left: str, right: str, cell: tuple[float, ...], ink: int) -> None:
    x, y, width, height = cell
    has_arrow = width >= ARROW_FROM
    inset = width / 8 if has_arrow else 0  # so that a pair's letters are nearer to each other than to the next pair's
    slot = (width - 2 * inset) / (3 if has_arrow else 2)
    size, middle = round(min(1.07 * width / (3 if has_arrow else 2), 0.6 * height)), y + height / 2
    for letter, center in ((left, x + inset + slot / 2), (right, x + width - inset - slot / 2)):
        pen.text((center, middle), letter, fill=ink, font=_font(size), anchor="mm", stroke_width=0.5)
    if has_arrow:
        _draw_arrow(pen, x + width / 2 - 0.3 * slot, x + width / 2 + 0.3 * slot, middle, ink)


def _draw_arrow(pen: ImageDraw.ImageDraw, begin: float, end: float, y: float, ink: int) -> None:
    head = (end - begin) / 3
    pen.line([(begin, y), (end, y)], fill=ink, width=2)
    pen.polygon([(end, y), (end - head, y - head), (end - head, y + head)], fill=ink)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
