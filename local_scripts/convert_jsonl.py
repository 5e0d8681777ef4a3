"""Convert rows with other field names, or a JSON array, to this repository's JSONL.

    python local_scripts/convert_jsonl.py rows.json --out train.jsonl --question question --answer answer \\
        --image image_path --image_prefix images

The flags of this script's first form, for those who have it in their scripts; `python -m open_r1.convert` also tells
formats, finds pictures and checks golds. Question, answer and image fields are named by flags; every other field is
kept, for the rewards. Tags such as `<image1>` in the question become `<image>`. A row without an answer stops the
conversion and is named; with `--skip_unanswered` such rows are skipped and counted. Pictures are not looked at.
"""

import argparse
import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from open_r1.errors import DataError
from open_r1.tasks.importers.picture_values import pictures_in
from open_r1.tasks.importers.questions.image_tags import with_image_tags
from open_r1.tasks.importers.sources import Source, Unusable


def convert_row(row: Any, number: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """The converted row, or None for a null or empty answer. Raises KeyError for a missing field, Unusable."""
    if isinstance(row, Unusable):
        raise row
    row = dict(row)
    question, answer, image = row.pop(args.question), row.pop(args.answer), row.pop(args.image, None)
    if answer is None or answer == "":
        return None
    names = [str(PurePosixPath(args.image_prefix, str(name))) for name in pictures_in(image)]
    (question,), images = with_image_tags([question], names)
    return {
        "id": row.pop("id", int(number) if number.isdigit() else number),
        **({"image": images[0] if len(images) == 1 else list(images)} if images else {}),
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
        **row,
    }


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--question", default="problem")
    parser.add_argument("--answer", default="solution")
    parser.add_argument("--image", default="image")
    parser.add_argument("--image_prefix", default="", help="folder put before each image path")
    parser.add_argument("--skip_unanswered", action="store_true")
    return parser


def main() -> None:
    args = options().parse_args()
    lines, skipped = [], 0
    try:
        rows = list(Source(args.rows).rows())
    except DataError as error:
        sys.exit(str(error))
    for where, row in rows:
        number = where.rpartition(":")[2]  # the line, or the position in an array
        try:
            line = convert_row(row, number, args)
        except KeyError as error:
            fields = ", ".join(row)
            sys.exit(f"{where}: {error.args[0]}: got no such field, expected one of: {fields}; see --help")
        except Unusable as error:
            sys.exit(f"{where}: got {error}, expected a row that can be converted; correct it, or remove it")
        if line is None and not args.skip_unanswered:
            remedy = "correct it, or leave such rows out with --skip_unanswered"
            sys.exit(f"{where}: {args.answer}: got nothing, expected an answer; {remedy}")
        lines += [json.dumps(line, ensure_ascii=False) + "\n"] if line else []
        skipped += line is None
    args.out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} rows written to {args.out}" + (f", {skipped} without an answer left out" if skipped else ""))


if __name__ == "__main__":
    main()
