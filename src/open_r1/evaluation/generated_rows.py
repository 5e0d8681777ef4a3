"""Rows for scripts whose task has a generator: the user's files, or held-out rows made on the spot."""

import argparse
from pathlib import Path

from open_r1.errors import UsageError
from open_r1.tasks.export import write_split
from open_r1.tasks.registry import TASKS


def add_made_rows(parser: argparse.ArgumentParser) -> None:
    """`--rows`, `--split` and `--data_seed`, which act where no `--data_file_paths` are given."""
    parser.add_argument("--rows", type=int, default=256, help="rows to make without --data_file_paths (default: 256)")
    parser.add_argument("--split", default="heldout", help="the generator's split (default: heldout)")
    parser.add_argument("--data_seed", type=int, default=0, help="another seed makes other rows")


def made_rows(args: argparse.Namespace) -> tuple[str, str | None]:
    """The given files, else rows of the task's generator below `output_dir/data`; raises UsageError for no split."""
    if args.data_file_paths:
        return args.data_file_paths, args.image_folders
    generator = TASKS[args.task].generator()
    if args.split not in generator.splits:
        raise UsageError(f"--split: got {args.split!r}, expected one of {', '.join(generator.splits)}")
    folder: Path = args.output_dir / "data"
    path = write_split(folder, args.split, generator, args.rows, args.data_seed)
    return str(path).replace(":", "\\:"), str(folder).replace(":", "\\:")
