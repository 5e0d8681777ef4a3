"""Write the digit-recognition dataset: `OUT/train.jsonl`, `OUT/heldout.jsonl` and PNGs under `OUT/images`.

    python local_scripts/make_digits.py --out data/digits --rows 2000 --seed 0
    python local_scripts/make_digits.py --out data/digits --rows 2000 --mnist path/to/mnist

Digits come from scikit-learn's handwritten set, or from an MNIST idx folder. Row i depends on (seed, i) only; train
and held-out images share no source digit.
"""

import argparse
import json
from pathlib import Path

from rich.progress import track

from open_r1.tasks.digits import Source, make_image, make_row, mnist_source, sklearn_source


def write_split(out: Path, name: str, source: Source, rows: int, seed: int) -> None:
    held_out = name == "heldout"
    source = source.split(held_out)
    with open(out / f"{name}.jsonl", "w", encoding="utf-8") as lines:
        for index in track(range((rows + 1) // 2), description=f"{name}: {rows} rows"):
            image, digits = make_image(source, seed, index, held_out)
            path = f"images/{name}_{index:06d}.png"
            image.save(out / path)
            for row, kind in list(enumerate(("list", "sum"), start=2 * index))[: rows - 2 * index]:
                lines.write(json.dumps(make_row(digits, kind, f"{name}-{row}", path)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--heldout_rows", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mnist", type=Path, help="folder with MNIST idx files instead of scikit-learn's digits")
    args = parser.parse_args()
    source = mnist_source(args.mnist) if args.mnist else sklearn_source()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    write_split(args.out, "train", source, args.rows, args.seed)
    write_split(args.out, "heldout", source, args.heldout_rows, args.seed)


if __name__ == "__main__":
    main()
