"""Generate the dataset of a synthetic task: `OUT/SPLIT.jsonl` for each of its splits, PNGs in `OUT/images`.

    python local_scripts/make_dataset.py digits --out data/digits --rows 2000 --heldout_rows 256 --seed 0
    python local_scripts/make_dataset.py digits --help      # the options of its generator

`--rows` counts the rows of the training split, `--heldout_rows` those of every other split. Row i depends only on
the options, the seed and i, so a longer dataset starts with the shorter one.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

from open_r1.errors import UsageError
from open_r1.tasks.export import write_split
from open_r1.tasks.find import find_task
from open_r1.tasks.registry import TASKS
from open_r1.tasks.task import Generator

SYNTHETIC = {name: task.generator for name, task in TASKS.items() if task.generator}
BOOLEANS = {"true": True, "false": False}


def add_options(parser: argparse.ArgumentParser, generator: type[Generator]) -> None:
    """A flag for each option of a generator, with its type, default and help; `--dark` alone is `--dark true`."""
    hints = get_type_hints(generator)
    for option in fields(generator):
        kind = next(kind for kind in get_args(hints[option.name]) or (hints[option.name],) if kind is not type(None))
        flag = {"type": kind}
        if kind is bool:
            flag = {"type": str.lower, "choices": BOOLEANS, "nargs": "?", "const": "true"}
        default = "" if option.default is None else f" Default: {str(option.default).lower()}."
        parser.add_argument(f"--{option.name}", **flag, help=option.metadata["help"] + default)


def generator_of(generator: type[Generator], args: argparse.Namespace) -> Generator:
    """The generator with the options of the command line."""
    options = {option.name: getattr(args, option.name) for option in fields(generator)}
    return generator(**{name: BOOLEANS.get(value, value) for name, value in options.items() if value is not None})


def generator_type(task: str) -> type[Generator]:
    """The generator of a synthetic task, by name or as path/to/task.py:TASK. Raises UsageError for another task."""
    if (generator := find_task(task).generator) is None:
        raise UsageError(f"task: got {task}, which has no generator, expected one of {', '.join(SYNTHETIC)}")
    return generator


def parser_of(task: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"make_dataset.py {task}", allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="Folder of the dataset.")
    parser.add_argument("--rows", type=int, default=2000, help="Rows of the training split. Default: 2000.")
    parser.add_argument("--heldout_rows", type=int, default=256, help="Rows of each other split. Default: 256.")
    parser.add_argument("--seed", type=int, default=0, help="Another seed gives another dataset. Default: 0.")
    add_options(parser, generator_type(task))
    return parser


def main() -> None:
    chooser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chooser.add_argument("task", help=f"{', '.join(sorted(SYNTHETIC))}, or path/to/task.py:TASK")
    task = chooser.parse_args(sys.argv[1:2]).task
    try:
        parser = parser_of(task)
    except UsageError as error:
        chooser.error(str(error))
    args = parser.parse_args(sys.argv[2:])
    try:
        generator = generator_of(generator_type(task), args)
    except ValueError as error:
        parser.error(str(error))
    for split in generator.splits:
        write_split(args.out, split, generator, args.rows if split == "train" else args.heldout_rows, args.seed)


if __name__ == "__main__":
    main()
