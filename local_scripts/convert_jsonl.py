"""Convert rows with other field names, or a JSON array, to this repository's JSONL.

    python local_scripts/convert_jsonl.py rows.json --out train.jsonl --question question --answer answer \\
        --image image_path --image_prefix images

Reads JSON lines or one JSON array. Question, answer and image fields are named by flags; every other field is kept,
for the rewards. Tags such as `<image1>` in the question become `<image>`. A row without an answer stops the
conversion and is named; with `--skip_unanswered` such rows are skipped and counted.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

NUMBERED_TAG = re.compile(r"<image_?\d+>")


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line or position from 1, row) of a JSON array or of JSON lines. Raises ValueError with the place."""
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        yield from enumerate(json.loads(text), start=1)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: got {line[:60]!r}, expected one JSON object ({error})") from error


def convert(row: dict[str, Any], number: int, args: argparse.Namespace) -> dict[str, Any] | None:
    """The converted row, or None for a null or empty answer. Raises KeyError for a missing field."""
    row = dict(row)
    question, answer, image = row.pop(args.question), row.pop(args.answer), row.pop(args.image, None)
    if answer is None or answer == "":
        return None
    images = [
        str(PurePosixPath(args.image_prefix, name)) for name in ([image] if isinstance(image, str) else image or [])
    ]
    question = NUMBERED_TAG.sub("<image>", question)
    return {
        "id": row.pop("id", number),
        **({"image": images[0] if len(images) == 1 else images} if images else {}),
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
    for number, row in read_rows(args.rows):
        try:
            line = convert(row, number, args)
        except KeyError as error:
            fields = ", ".join(row)
            sys.exit(
                f"{args.rows}:{number}: {error.args[0]}: got no such field, expected one of: {fields}; see --help"
            )
        if line is None and not args.skip_unanswered:
            remedy = "correct it, or leave such rows out with --skip_unanswered"
            sys.exit(f"{args.rows}:{number}: {args.answer}: got nothing, expected an answer; {remedy}")
        lines += [json.dumps(line, ensure_ascii=False) + "\n"] if line else []
        skipped += line is None
    args.out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} rows written to {args.out}" + (f", {skipped} without an answer left out" if skipped else ""))


if __name__ == "__main__":
    main()
