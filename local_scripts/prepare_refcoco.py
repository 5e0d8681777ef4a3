"""Convert RefCOCO, RefCOCO+ and RefCOCOg in their public forms to OUT/NAME_SPLIT.jsonl, one line a sentence.

    python local_scripts/prepare_refcoco.py "refs(unc).p" --instances instances.json --image_prefix train2014 \\
        --name refcoco --out data
    python local_scripts/prepare_refcoco.py val-*.parquet testA-*.parquet --name refcoco --out data
    python local_scripts/prepare_refcoco.py refcocog_train.json --name refcocog --out data --skip_unanswered

The file ending decides the form. `.p`: the pickle of the refer toolbox, read without running code from it; boxes and
sizes come from instances.json. `.parquet`: from the hub, with the columns of lmms-lab, whose images are inside and go
to OUT/images, or of jxu124. `.json`: VLM-R1's rec_jsons. The split is that of the row, else of the file's name, else
--split. Boxes become [x1, y1, x2, y2] in pixels of the original image, and COCO_train2014_000000581857_16.jpg becomes
COCO_train2014_000000581857.jpg. If any row is defective, no JSONL is written, and each defect is named with its row,
counted from 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from open_r1.errors import DataError, Problem
from open_r1.tasks.importers.annotations.refcoco import READERS, SPLIT_NAMES, Sources
from open_r1.tasks.importers.annotations.regions import SplitLines, collect_regions


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help=f"files of one dataset: {', '.join(READERS)}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="refcoco", help="begins the names of the files")
    parser.add_argument("--instances", type=Path, help="instances.json that belongs to the refs of a .p")
    parser.add_argument(
        "--split", choices=sorted(set(SPLIT_NAMES.values())), help="of files without a split of their own"
    )
    parser.add_argument("--image_prefix", default="", help="folder put before the names of images that are not inside")
    parser.add_argument("--skip_unanswered", action="store_true", help="leave rows without a box out, and count them")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = options().parse_args(arguments)
    lines = SplitLines(args.name, args.out, args.image_prefix)
    collect_regions(args.files, Sources(args.instances, args.split), lines)
    if not args.skip_unanswered:
        remedy = "correct it, or leave such rows out with --skip_unanswered"
        lines.problems += [Problem(place, "solution", "null", "a box", remedy) for place in lines.unanswered]
    if lines.problems:
        sys.exit(str(DataError(lines.problems)))
    for path, count in lines.write():
        print(f"{count} rows written to {path}")
    if lines.unanswered:
        print(f"{len(lines.unanswered)} without a box left out")


if __name__ == "__main__":
    main()
