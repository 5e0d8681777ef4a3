"""Draw gold outlines, true masks and predictions of segmentation rows on their pictures: OUTPUT/ID.png.

    python eval/draw_polygons.py data/coco/val.jsonl --image-root data/coco --output vis --limit 20
    python eval/draw_polygons.py val.jsonl --image-root data/coco --output vis --predictions predictions.jsonl

Green: the gold outline; yellow, filled: the true mask (`segmentation`); red, dashed: the prediction, whose IoU is in
the title, the gold's in the legend.
A line of the predictions holds `id`, a row's id, and `completion`, the model's text; with --box_space, or the
--model_family whose space it is, its numbers are read in that space where it states no size. Rows that have no
prediction are drawn without one; a prediction that is no outline says so.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import orjson
from matplotlib.patches import Patch

from open_r1.data.geometry.coordinates import SPACES, space_of
from open_r1.data.geometry.masks import decode_rle
from open_r1.data.geometry.polygons import outline_points
from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.errors import DataError, Problem, UsageError, shorten
from open_r1.rewards.drawing import ANSWERED, GOLD
from open_r1.rewards.gold import gold_completion
from open_r1.rewards.parsing.polygons import last_polygon
from open_r1.rewards.pictures import in_pixels
from open_r1.rewards.segmentation import frame_size, gold_polygon, mask_iou, true_mask

TRUTH = "#ffdc00"


def read_predictions(path: Path) -> dict[str, str]:
    """id -> completion; raises DataError for a line without both, and for a repeated id."""
    completions: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        where, expected = f"{path}:{number}", 'an object with "id" and "completion", each id once'
        try:
            row = orjson.loads(line)
            name, text = str(row["id"]), row["completion"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise _line_error(where, f"{type(error).__name__}: {error}", expected) from error
        if not isinstance(text, str) or name in completions:
            raise _line_error(where, shorten(row), expected)
        completions[name] = text
    return completions


def _line_error(where: str, got: str, expected: str) -> DataError:
    return DataError([Problem(where, "prediction", got, expected, "correct the line")])


def draw(record: Record, completion: str | None, path: Path) -> None:
    """Draw one row's picture and outlines, in pixels of the original image, to `path`."""
    gold = gold_polygon(record)
    size = (int(gold.size[0]), int(gold.size[1]))
    (image,) = load_images([record])[0]
    figure, axis = plt.subplots(figsize=(7, 7 * size[0] / size[1] + 0.8))
    axis.imshow(image, extent=(0, size[1], size[0], 0))
    entries, title = [], [question(record)]
    if record.extra.get("segmentation") is not None:
        layer = np.zeros((*size, 4))
        layer[decode_rle(true_mask(record, gold, size))] = [1.0, 0.86, 0.0, 0.45]
        axis.imshow(layer, extent=(0, size[1], size[0], 0))
        entries.append(Patch(color=TRUTH, alpha=0.45, label="true mask"))
    gold_iou = mask_iou(gold_completion(record), in_pixels(record))
    entries += outline(axis, outline_points(gold), GOLD, "-", f"gold, IoU {gold_iou:.2f}")
    if completion is not None:
        answer = last_polygon(completion, frame_size(record, size))
        title.append(f"prediction: IoU {mask_iou(completion, record):.2f}" if answer else "prediction: no outline")
        corners = outline_points(answer, size) if answer else np.zeros((0, 2))
        entries += outline(axis, corners, ANSWERED, "--", "prediction")
    axis.set(xlim=(0, size[1]), ylim=(size[0], 0))
    axis.set_title("\n".join(title), fontsize=9)
    axis.legend(handles=entries, loc="lower right", fontsize=8)
    axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def outline(axis: plt.Axes, corners_N2: np.ndarray, color: str, style: str, label: str) -> list:
    """Draw a closed line; returns its legend entry."""
    closed = np.concatenate([corners_N2, corners_N2[:1]])
    axis.plot(*closed.T, color="black", linewidth=3.5, alpha=0.6)
    return axis.plot(*closed.T, color=color, linewidth=2, linestyle=style, label=label)


def question(record: Record) -> str:
    """The row's id and question, up to the first colon."""
    text = record.turns[-1].text.replace("<image>", "").partition(":")[0]
    return f"{record.id}: {text[:100]}"


def first_records(data: Iterable[Record], limit: int | None) -> list[Record]:
    """The first `limit` records."""
    return [record for number, record in enumerate(data) if limit is None or number < limit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSONL of the segmentation task")
    parser.add_argument("--image-root", required=True, help="folder that the rows' paths start from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--predictions", type=Path, help="JSONL with id and completion")
    parser.add_argument("--box_space", choices=SPACES, help="of the predictions (default: the family's)")
    parser.add_argument("--model_family", default="original", help="config.model_type of the model")
    parser.add_argument("--limit", type=int, help="so many rows from the first")
    args = parser.parse_args()
    space = args.box_space or space_of(args.model_family)
    records = first_records(load_records(args.rows, args.image_root, reward_methods="mask_iou"), args.limit)
    predictions = read_predictions(args.predictions) if args.predictions else {}
    if unknown := sorted(set(predictions) - {record.id for record in records}) if args.limit is None else []:
        raise _line_error(
            str(args.predictions), f"{len(unknown)} ids without a row ({unknown[0]!r})", "ids of the rows"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        name = re.sub(r"[^\w.-]", "_", record.id)[:100]
        draw(record.with_extra(box_space=space), predictions.get(record.id), args.output / f"{number:05d}_{name}.png")
    print(f"{args.output}: {len(records)} pictures, {len(predictions)} predictions")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
