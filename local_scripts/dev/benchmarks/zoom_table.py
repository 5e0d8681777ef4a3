"""Print what runs of `quickstart_zoom.sh` learned: held-out accuracy, and whether calls are about the right place.

    for SEED in 0 1 2; do SEED=$SEED OUT=output/zoom$SEED bash run_scripts/quickstart_zoom.sh; done
    for SEED in 0 1 2; do TOOLS= SEED=$SEED OUT=output/without$SEED bash run_scripts/quickstart_zoom.sh; done
    python local_scripts/dev/benchmarks/zoom_table.py output/zoom? output/without?

A row is an evaluation before or after training: accuracy with Wilson's 95 % interval, the share of rows with a call,
the share whose first call is about the yellow frame (IoU at least `SAME`), accuracy of these rows and of the other
rows with a call.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

from open_r1.data.jsonl_io import each_line
from open_r1.rewards.referring import box_iou

SAME = 0.5
COLUMNS = ("run", "", "accuracy [95 % interval]", "calls", "right frame", "right there", "right elsewhere")


def first_box(turns: list[dict]) -> list[float] | None:
    """The box of the first call of a completion that names four numbers."""
    calls = (call["function"]["arguments"] for turn in turns for call in turn.get("tool_calls", ()))
    boxes = (call.get("bbox_2d") for call in calls if isinstance(call, dict))
    return next((box for box in boxes if isinstance(box, list) and len(box) == 4), None)


def share(verdicts: list[bool]) -> str:
    return f"{fmean(verdicts):.3f} of {len(verdicts)}" if verdicts else "–"


def figures(run: Path, when: str) -> list[str]:
    """The cells of an evaluation."""
    frames = {line["id"]: line["frames"][0] for line in each_line(run / "data" / "heldout.jsonl")}
    lines = list(each_line(run / when / "predictions.jsonl"))
    boxes = [first_box(line.get("turns", [])) for line in lines]
    there = [
        box is not None and box_iou(box, frames[line["id"]]) >= SAME for box, line in zip(boxes, lines, strict=True)
    ]
    kinds = {
        place: [line["right"] for line, box, at in zip(lines, boxes, there, strict=True) if box and at == place]
        for place in (True, False)
    }
    result = json.loads((run / when / "summary.json").read_text(encoding="utf-8"))["think"]
    accuracy = "{accuracy:.3f} [{low:.3f}, {high:.3f}]".format(**result)
    calls = fmean(box is not None for box in boxes)
    return [run.name, when, accuracy, f"{calls:.3f}", f"{fmean(there):.3f}", share(kinds[True]), share(kinds[False])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="OUT of finished runs")
    rows = [figures(run, when) for run in parser.parse_args().runs for when in ("before", "after")]
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
