"""Rows of scripts whose task has a generator: the user's files, or generated held-out rows."""

import argparse
from pathlib import Path

from open_r1.errors import UsageError
from open_r1.tasks.export import write_split
from open_r1.tasks.find import find_task


def add_generator_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--rows`, `--split` and `--data_seed`, which act without `--data_file_paths`."""
    parser.add_argument("--rows", type=int, default=256, help="rows to make without --data_file_paths (default: 256)")
    parser.add_argument("--split", default="heldout", help="the generator's split (default: heldout)")
    parser.add_argument("--data_seed", type=int, default=0, help="another seed makes other rows")


def generated_rows(args: argparse.Namespace) -> tuple[str, str | None]:
    """(data files, image folders): the given ones, else rows of the task's generator in `output_dir/data`.

    Raises UsageError for a split that the generator has not.
    """
    if args.data_file_paths:
        return args.data_file_paths, args.image_folders
    generator = find_task(args.task).generator()
    if args.split not in generator.splits:
        raise UsageError(f"--split: got {args.split!r}, expected one of {', '.join(generator.splits)}")
    folder: Path = args.output_dir / "data"
    path = write_split(folder, args.split, generator, args.rows, args.data_seed)
    return str(path).replace(":", "\\:"), str(folder).replace(":", "\\:")
