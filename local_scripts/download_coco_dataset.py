"""Download COCO and write its instances as rows of the segmentation task: OUTPUT_DIR/train.jsonl and val.jsonl.

    python local_scripts/download_coco_dataset.py --output_dir data/coco                     # COCO 2014, 20 GB
    python local_scripts/download_coco_dataset.py --output_dir data/coco --year 2017 --basis fourier --terms 16
    python local_scripts/download_coco_dataset.py --output_dir out --annotations train.json val.json --images a b

Each line is one instance. Downloads and rows continue where an earlier run stopped; rows and their order do not depend
on the number of workers. Downloaded images are in OUTPUT_DIR, which is then the image folder of both files. With local
files, --images names the image folder of each; of a single annotation file every 20th picture goes to val.jsonl.
"""

import argparse
import json
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from open_r1.data.geometry.polygons import BASES, RAYS
from open_r1.data.jsonl_io import atomic_write
from open_r1.errors import DataError, data_error
from open_r1.tasks.importers.annotations.coco import InstanceFilter, Picture, picture_rows, read_pictures
from open_r1.tasks.importers.downloads import download, unzip

SERVER = "http://images.cocodataset.org"
MD5 = {  # from mirrors and dataset libraries; the server itself publishes none
    "annotations/annotations_trainval2014.zip": "0a379cfc70b0e71301e0f377548639bd",
    "annotations/annotations_trainval2017.zip": "f4bbac642086de4f52a3fdda2de5fa2c",
    "zips/train2014.zip": "0da8c0bd3d6becc4dcb32757491aca88",
    "zips/val2014.zip": "a3d79f5ed8d289b7a7554ce06a5782b3",
    "zips/train2017.zip": "cced6f7f71b7629ddf16f17bbcfab6b2",
    "zips/val2017.zip": "442b8da7639aecaf257c1dceb8ba8c80",
}
BATCH = 512  # pictures between two saves of the state
VAL_EVERY = 20


@dataclass(frozen=True)
class Split:
    """The pictures of one output file; `images` is their image folder."""

    name: str
    pictures: list[Picture]
    images: Path


def fetch(year: int, out: Path, server: str, bar: Progress) -> list[Split]:
    """Downloads and unpacks a year's annotations and images below `out`."""
    _archive(f"annotations/annotations_trainval{year}.zip", out, server, bar, lambda name: "/instances_" in name)
    splits = []
    for name in ("train", "val"):
        _archive(f"zips/{name}{year}.zip", out, server, bar)
        notes = out / "annotations" / f"instances_{name}{year}.json"
        splits.append(Split(name, read_pictures(notes, f"{name}{year}"), out))
    return splits


def _archive(name: str, out: Path, server: str, bar: Progress, select: Any = lambda name: True) -> None:
    """Downloads and unpacks one archive; a `.done` file beside it marks that both are finished."""
    path = out / "archives" / Path(name).name
    done = path.with_suffix(".done")
    if done.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    task = bar.add_task(f"download {path.name}", total=None)
    download(f"{server}/{name}", path, MD5[name], lambda n, total: bar.update(task, completed=n, total=total))
    task = bar.add_task(f"unpack {path.name}", total=None)
    unzip(path, out, select, lambda n, total: bar.update(task, completed=n, total=total))
    done.touch()


def local(annotations: list[Path], images: list[Path]) -> list[Split]:
    """The splits train and val of one or two annotation files, with an image folder each."""
    if len(annotations) == 2:
        return [Split(*args) for args in zip(("train", "val"), map(read_pictures, annotations), images, strict=True)]
    pictures = read_pictures(annotations[0])
    val = pictures[VAL_EVERY - 1 :: VAL_EVERY]
    train = [picture for i, picture in enumerate(pictures, 1) if i % VAL_EVERY]
    return [Split("train", train, images[0]), Split("val", val, images[0])]


@dataclass(frozen=True)
class State:
    """The progress of a file of rows: pictures done, bytes and rows written, instances left out by reason."""

    key: dict[str, Any]  # the settings and pictures that the rows depend on
    pictures: int = 0
    bytes: int = 0
    rows: int = 0
    left: dict[str, int] = field(default_factory=dict)
    whole: bool = False


def write_split(split: Split, selection: InstanceFilter, out: Path, workers: int, bar: Progress) -> State:
    """Writes OUT/NAME.jsonl; continues an earlier run's NAME.jsonl.part if its settings were the same."""
    pictures = present(split)
    instances = [one for picture in pictures for one in picture.instances]
    key = {**asdict(selection), "pictures": len(pictures), "ids": sum(one.id for one in instances)}
    key["area"] = sum(one.area for one in instances)
    state = read_state(out / split.name, key)
    task = bar.add_task(f"{split.name}.jsonl", total=len(pictures), completed=state.pictures)
    if state.whole:
        return state
    with open(out / f"{split.name}.jsonl.part", "ab") as lines, ProcessPoolExecutor(workers) as pool:
        lines.truncate(state.bytes)
        for start in range(state.pictures, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            rows, skipped = 0, Counter(state.left)
            for picture_lines, reasons in pool.map(partial(picture_rows, selection=selection), batch, chunksize=16):
                lines.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in picture_lines).encode())
                rows, skipped = rows + len(picture_lines), skipped + reasons
                bar.advance(task)
            lines.flush()
            state = State(key, start + len(batch), lines.tell(), state.rows + rows, dict(skipped))
            write_state(out / split.name, state)
    (out / f"{split.name}.jsonl.part").replace(out / f"{split.name}.jsonl")
    state = replace(state, whole=True)
    write_state(out / split.name, state)
    return state


def present(split: Split) -> list[Picture]:
    """The pictures whose file exists; raises DataError where none does."""
    existing = [picture for picture in split.pictures if (split.images / picture.file).is_file()]
    if existing or not split.pictures:
        return existing
    expected = f"{split.pictures[0].file!r} and the others of {split.name}.jsonl"
    raise data_error(str(split.images), "images", "none of them", expected, "correct --images")


def read_state(stem: Path, key: dict[str, Any]) -> State:
    """The state of an earlier run with the same key, or the initial state."""
    path = stem.with_suffix(".state.json")
    state = State(**json.loads(path.read_text())) if path.exists() else State(key)
    rows = stem.with_suffix(".jsonl" if state.whole else ".jsonl.part")
    return state if state.key == key and rows.exists() and rows.stat().st_size >= state.bytes else State(key)


def write_state(stem: Path, state: State) -> None:
    """Writes the state in one step."""
    with atomic_write(stem.with_suffix(".state.json")) as file:
        file.write(json.dumps(asdict(state)).encode())


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--year", type=int, choices=(2014, 2017), default=2014)
    parser.add_argument("--annotations", type=Path, nargs="+", help="local instances_*.json: one, or train and val")
    parser.add_argument("--images", type=Path, nargs="+", help="an image folder for each of --annotations")
    parser.add_argument("--basis", choices=BASES, default="chebyshev")
    parser.add_argument("--terms", type=int, default=8, help=f"coefficients of an outline, 1 to {RAYS}")
    parser.add_argument("--min_area", type=int, default=1024, help="smallest mask in pixels")
    parser.add_argument("--keep_crowd", action="store_true", help="also rows of crowds")
    parser.add_argument("--max_per_image", type=int, help="keep the largest of a picture")
    parser.add_argument(
        "--min_ceiling", type=float, default=0.0, help="smallest IoU of the gold outline with its mask"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--server", default=SERVER, help="a mirror of images.cocodataset.org")
    return parser


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends with a usage error for flags that contradict each other or are out of range."""
    if (args.annotations is None) != (args.images is None) or len(args.annotations or []) != len(args.images or []):
        parser.error("--annotations and --images: expected both with as many entries, or neither")
    if len(args.annotations or []) > 2:
        parser.error(f"--annotations: got {len(args.annotations)} files, expected one, or train and val")
    for name, low, high in (("terms", 1, RAYS), ("workers", 1, 1024), ("max_per_image", 1, 10**6)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            parser.error(f"--{name}: got {value}, expected {low} to {high}")


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    check(args, parser)
    selection = InstanceFilter(
        args.basis, args.terms, args.min_area, args.keep_crowd, args.max_per_image, args.min_ceiling
    )
    out: Path = args.output_dir
    out.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True)) as bar:
        if args.annotations:
            splits = local(args.annotations, args.images)
        else:
            splits = fetch(args.year, out, args.server.rstrip("/"), bar)
        written = [write_split(split, selection, out, args.workers, bar) for split in splits]
    for split, state in zip(splits, written, strict=True):
        skipped = {**state.left, "pictures without a file": len(split.pictures) - state.key["pictures"]}
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()) if count) or "nothing"
        print(f"{out / split.name}.jsonl: {state.rows} rows; left out: {reasons}; --image_folders {split.images}")


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        sys.exit(str(error))
