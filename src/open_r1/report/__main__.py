"""Write one page about one run or several: `python -m open_r1.report RUN_DIR [RUN_DIR2 ...] [--out FILE]`.

A run folder is the --output_dir of a finished or training run. The page is one file that loads nothing from anywhere;
it is written to the first folder, or to --out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from open_r1.errors import UsageError
from open_r1.report.page import write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m open_r1.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, help="default: report.html in the first folder")
    args = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        with console.status(f"reading {', '.join(map(str, args.runs))}"):
            page = write_report(args.runs, args.out or args.runs[0] / "report.html")
    except UsageError as error:
        console.print(str(error), style="red", soft_wrap=True, highlight=False, markup=False)
        return 1
    console.print(f"{page}: {page.stat().st_size / 2**20:.1f} MB", soft_wrap=True, highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
