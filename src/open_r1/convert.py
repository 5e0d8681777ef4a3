"""Any data that people have becomes rows of this project: exports of tools, conversations, question files, parquet.

    python -m open_r1.convert FILE... --out DIR [--from FORMAT] [--task rec|detection|seg|counting|vqa]

The format is told by the content and said; what cannot be a row is left out and counted by reason. DIR gets one JSONL
file a split, which passes `python -m open_r1.check`, and `convert.json`, the report. Nothing is fetched.

Exit status 0: rows were written; 1: none, or a file that cannot be read; 2: wrong usage.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from open_r1.data.field_names import renaming_of
from open_r1.data.jsonl_dataset import load_records
from open_r1.errors import DataError, UsageError, data_error
from open_r1.report.preview import write_preview
from open_r1.tasks.importers.annotations.annotated import TRAINING_TASKS, annotated_rows
from open_r1.tasks.importers.annotations.frames import READINGS
from open_r1.tasks.importers.conversion import Conversion
from open_r1.tasks.importers.formats import FOREIGN_FORMATS, format_of, refuse_idle_options, sources_of
from open_r1.tasks.importers.items import AnnotatedPicture, ImportedItem, ImportOptions
from open_r1.tasks.importers.output import Written, refuse_overwriting, write_rows
from open_r1.tasks.importers.pictures import CONTESTED, Pictures, search_folders
from open_r1.tasks.importers.questions.grounding import with_boxes_in_pixels
from open_r1.tasks.importers.sources import Source
from open_r1.tasks.importers.splits import split_in_name

TASK_CHOICES = ("rec", "detection", "seg", "counting", "point", "vqa")


def convert_parser() -> argparse.ArgumentParser:
    """The flags of the importer."""
    parser = argparse.ArgumentParser(
        prog="python -m open_r1.convert", description="Makes rows of this project from data in foreign formats."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files or folders")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--from", dest="format", default="", metavar="FORMAT", help=f"one of {', '.join(FOREIGN_FORMATS)}"
    )
    parser.add_argument("--task", default="", choices=TASK_CHOICES, help="what is asked about annotated pictures")
    parser.add_argument(
        "--boxes", default="", choices=[*READINGS], help="what the four numbers of boxes are, where it cannot be told"
    )
    parser.add_argument("--image_folder", type=Path, help="where the pictures are; default: beside the files")
    parser.add_argument("--fields", default="", metavar="OURS=THEIRS,...", help="which fields of the rows are ours")
    parser.add_argument("--keep", default="", metavar="FIELD,...", help="further fields to keep, for your own rewards")
    parser.add_argument("--turns", choices=["last", "all"], default="last", help="which answers are golds")
    parser.add_argument("--preview", action="store_true", help="write DIR/preview.html: sample rows, golds drawn")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that holds rows already")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the importer; returns the exit status."""
    parser = convert_parser()
    args = parser.parse_args(argv)
    try:
        written = convert(args)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    except (UsageError, ValueError) as error:
        parser.error(str(error))
    print_report(written)
    if args.preview and written.files:
        data = load_records(list(written.files), written.image_folder or None)
        print(f"preview: {write_preview(data, args.out / 'preview.html')}")
    return 0 if written.files else 1


def convert(args: argparse.Namespace) -> Written:
    """Reads all sources and writes their rows. Raises DataError for a source that cannot be read as a whole."""
    _check_paths(args)
    chosen = args.image_folder is not None
    pictures = Pictures(search_folders(args.files, args.image_folder), args.out / "images", chosen)
    wanted = ImportOptions(
        pictures,
        task=args.task,
        boxes=args.boxes,
        fields=renaming_of(args.fields).fields,
        all_turns=args.turns == "all",
        keep=tuple(name.strip() for name in args.keep.split(",") if name.strip()),
    )
    conversion, found, annotated = Conversion(), [], []
    sources = [source for path in args.files for source in sources_of(Source(path), args.format)]
    for source in sources:
        options = replace(wanted, others=tuple(other for other in sources if other is not source))
        name = format_of(source, args.format, bool(args.fields))
        refuse_idle_options(name, options)
        before = len(annotated)
        items = with_boxes_in_pixels(FOREIGN_FORMATS[name].read(source, options), source, options)
        count = conversion.add(_rows(items, annotated), pictures, split_in_name(source.path.stem))
        pictures_found = len(annotated) - before
        what = f"annotated pictures: {pictures_found}" if pictures_found else f"{count} rows"
        found.append(f"{source.path}: {FOREIGN_FORMATS[name].title} ({source.kind}), {what}")
        print(found[-1], flush=True)
    if annotated:
        conversion.add(annotated_rows(annotated, args.task, pictures), pictures)
    conversion.leave_out(dict.fromkeys(pictures.contested, CONTESTED))
    conversion.leave_out_damaged()
    if alone := {path: name for path, name in pictures.by_name_alone.items() if path not in pictures.contested}:
        path, name = next(iter(alone.items()))
        first = f"the first: {name} is read from {path}"
        conversion.remarks.append(f"{len(alone)} pictures are found by their names alone, in other folders; {first}")
    return write_rows(args.out, conversion, pictures, found, TRAINING_TASKS.get(args.task, ""))


def _rows(items: Iterator[ImportedItem], annotated: list[AnnotatedPicture]) -> Iterator[ImportedItem]:
    """The items that are rows already; annotated pictures are collected for `annotated_rows`, which knows them all."""
    for item in items:
        if isinstance(item, AnnotatedPicture):
            annotated.append(item)
        else:
            yield item


def _check_paths(args: argparse.Namespace) -> None:
    for path in args.files:
        if not path.exists():
            raise data_error(str(path), "file", "no such file", "a file or a folder", "correct the path")
    if args.image_folder is not None and not args.image_folder.is_dir():
        got = f"{args.image_folder}, which is no folder"
        raise data_error("--image_folder", "folder", got, "the folder of the pictures", "correct the path")
    refuse_overwriting(args.out, args.overwrite)


def print_report(written: Written) -> None:
    """Prints what was written, what was left out and why, and the next commands."""
    for remark in written.remarks:
        print(f"note: {remark}")
    for entry in written.left_out:
        first = ", ".join(entry["first"])
        print(f"left out: {entry['count']} x {entry['reason']} (first: {first})")
    for name, count in written.files.items():
        print(f"{name}: {count} rows" + (f", pictures below {written.image_folder}" if written.image_folder else ""))
    if not written.files:
        print("nothing was written: no item became a row", file=sys.stderr)
        return
    titles = ("the doctor", "the training", "the same in small: two steps of the tiny model, no GPU needed")
    for title, command in zip(titles, written.commands, strict=True):
        print(f"\n{title}:\n  {command}")


if __name__ == "__main__":
    sys.exit(main())
