"""The model card of a checkpoint: what it is, how to ask it about a picture, how it was made, how good it is.
(torch-free)

A run writes it beside the weights each time it saves. Evaluations come later, so they are put in by hand:

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
