"""Draw the example pictures of the area and decoding tasks for the documentation.

python local_scripts/dev/figures/draw_examples.py  # writes assets/figures/area_examples.png and decode_examples.png
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from open_r1.tasks.area import AREA_SHAPES, Areas
from open_r1.tasks.decode_sequences import CodedSequences
from open_r1.tasks.decode_words import CodedWords
from open_r1.tasks.task import DrawnExample, Generator


def first(generator: Generator, shape: str) -> DrawnExample:
    """The first training example with this shape."""
    examples = (generator.example(0, "train", index) for index in range(1000))
    return next(example for example in examples if example.questions[0].extra["shape"] == shape)


def sheet(out: Path, rows: Sequence[tuple[str, Sequence[tuple[DrawnExample, str]]]], inches: float) -> None:
    """Draw rows of pictures to `out`: a title left of each row, a caption below each picture."""
    columns = max(len(cells) for _, cells in rows)
    figure, axes = pyplot.subplots(
        len(rows), columns, figsize=(columns * inches, len(rows) * inches * 1.05), squeeze=False, layout="constrained"
    )
    for row, (title, cells) in zip(axes, rows, strict=True):
        for place, (example, caption) in zip(row, cells, strict=True):
            place.imshow(example.images[0])
            place.set_xlabel(caption, fontsize=9)
            place.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, fontsize=9)
    figure.savefig(out, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def area_rows() -> list[tuple[str, list[tuple[DrawnExample, str]]]]:
    """(title, [(example, caption)]) of each variant of the area task, with every shape."""
    variants = {
        "as it is": Areas(),
        "--rotation 45": Areas(rotation=45),
        "--low 5": Areas(low=5),
        "--size 112 --dark": Areas(size=112, dark=True),
    }
    return [
        (
            title,
            [(example, f"{example.questions[0].answer}") for example in (first(generator, s) for s in AREA_SHAPES)],
        )
        for title, generator in variants.items()
    ]


def decode_rows() -> list[tuple[str, list[tuple[DrawnExample, str]]]]:
    """One row of decoders, of each task and of the small setting, with code and message as captions."""
    small = CodedWords(alphabet=6, size=84, dark=True)
    generators = (CodedWords(), CodedSequences(), replace(small, alphabet=12, size=168), small)
    examples = [generator.example(0, "train", 0) for generator in generators]
    captions = [f"{e.questions[0].extra['coded']} = {e.questions[0].answer}" for e in examples]
    return [("", list(zip(examples, captions, strict=True)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[3] / "assets" / "figures")
    out = parser.parse_args().out
    sheet(out / "area_examples.png", area_rows(), inches=2)
    sheet(out / "decode_examples.png", decode_rows(), inches=3)


if __name__ == "__main__":
    main()
