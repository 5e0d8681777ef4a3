"""Referring expressions: RefCOCO, RefCOCO+, RefCOCOg (val, testA, testB, test), LISA-Grounding: IoU > 0.5, mean IoU.

    python eval/refcoco.py --model output/rec/checkpoint --image_root data/coco --output_dir output/rec-eval \\
        --annotations rec_jsons/refcoco_val.json rec_jsons/refcocop_val.json rec_jsons/refcocog_val.json
    python eval/refcoco.py --model M --annotations refcoco_testA.jsonl --image_root data --output_dir OUT --sample 2000
    python eval/refcoco.py --from_predictions boxes.jsonl

Annotations are JSONL (made by local_scripts/prepare_refcoco.py, or your own) or VLM-R1's JSON; each file is a split of
the summary. Rows without a box (null) are left out and counted. `--sample 2000` takes so many rows
of each file, shuffled with seed 42 as VLM-R1 does; without it all rows count. The last box of the answer is read in
whatever notation, in the coordinates of the model's family; an answer without a box is wrong. VLM-R1 reports 90.55 /
84.3 / 87.1 % on the val splits of 2,000 rows, and 63.1 % on LISA-Grounding.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from rich.console import Console

from open_r1.errors import DataError, UsageError
from open_r1.evaluation.cli import main, parser_of
from open_r1.tasks.importers.annotations.refcoco import Sources
from open_r1.tasks.importers.annotations.regions import SplitLines, collect_regions

VLM_R1_SEED = 42


def find_rows(args: argparse.Namespace) -> tuple[str, str]:
    """(data files, image folder) of the annotations, as JSONL."""
    if not args.annotations or not args.image_root:
        raise UsageError("--annotations, --image_root: got nothing, expected files and the folder of their images")
    out = args.output_dir / "data"
    out.mkdir(parents=True, exist_ok=True)
    paths = [as_jsonl(path, out, args.sample) for path in args.annotations]
    return ":".join(str(path).replace(":", "\\:") for path in paths), str(args.image_root)


def as_jsonl(path: Path, out: Path, sample: int | None) -> Path:
    """The file itself where it is JSONL and used whole, else `out/STEM.jsonl` of its rows."""
    if path.suffix == ".jsonl" and sample is None:
        return path
    rows = (
        path.read_text(encoding="utf-8").splitlines(keepends=True) if path.suffix == ".jsonl" else converted(path, out)
    )
    if sample is not None:
        random.Random(VLM_R1_SEED).shuffle(rows)
    target = out / f"{path.stem}.jsonl"
    target.write_text("".join(rows[:sample]), encoding="utf-8")
    return target


def converted(path: Path, out: Path) -> list[str]:
    """The JSONL lines of a file in another public format of RefCOCO. Raises DataError with every defect."""
    lines = SplitLines(path.stem, out, "")
    collect_regions([path], Sources(split="val"), lines)
    if lines.problems:
        raise DataError(lines.problems)
    if lines.unanswered:
        Console(stderr=True).print(f"{path}: {len(lines.unanswered)} rows without a box left out")
    return [line for split in lines.by_split.values() for line in split]


def count_missing(lines: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Add the number of answers without a box; a high one means another notation or too few tokens."""
    summary["answers_without_a_box"] = sum(line["parsed"] is None for line in lines)


if __name__ == "__main__":
    parser = parser_of(__doc__, task="rec", data=False)
    parser.add_argument("--annotations", type=Path, nargs="+", help="JSONL, or VLM-R1's JSON; each is a split")
    parser.add_argument("--image_root", type=Path, help="folder that the rows' paths start from")
    parser.add_argument("--sample", type=int, help="so many rows of each, VLM-R1's shuffle (default: all)")
    main(parser, find_rows=find_rows, finish=count_missing)
