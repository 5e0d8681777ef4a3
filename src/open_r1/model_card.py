"""Add evaluations to the model card of a checkpoint. (torch-free)

A run writes the card beside the weights at each save: model, usage, training. Results of later evaluations are added:

    python -m open_r1.model_card output/run/checkpoint output/run/eval [more output folders of eval/ scripts]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from open_r1.errors import UsageError
from open_r1.report.model_card import add_evaluations


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m open_r1.model_card", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("checkpoint", type=Path, help="folder of a saved model")
    parser.add_argument("evaluations", type=Path, nargs="+", help="output folders of scripts of eval/")
    args = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{add_evaluations(args.checkpoint, args.evaluations)}\n")
    except UsageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
