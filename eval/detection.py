"""Detection: COCO's AP over all pictures together (by pycocotools), beside the mean of each picture's own.

    python eval/detection.py --model output/od/checkpoint --data_file_paths val.jsonl --image_folders images \\
        --output_dir output/od-eval
    python eval/detection.py --from_predictions boxes.jsonl

The gold answer is a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": ...} in pixels of the original image, or None.
A model says no confidences, so boxes count in the order of the answer. Without files, 256 held-out pictures are made.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from open_r1.data.record import Record
from open_r1.evaluation.cli import main, parser_of
from open_r1.evaluation.generated_rows import add_generator_flags, generated_rows
from open_r1.rewards.detection import gold_detections
from open_r1.rewards.parsing.answer import normalize

Line = dict[str, Any]


def dataset_ap(lines: Sequence[Line]) -> dict[str, float]:
    """{"AP", "AP50", "AP75"} of all pictures; {} where no gold box is in any."""
    gold, predictions, labels = [], [], {}
    for image, line in enumerate(lines):
        for box in gold_detections(Record(line["row"], (), "", (), line["solution"], where=line["row"])):
            category = labels.setdefault(normalize(box.label or ""), len(labels) + 1)
            gold.append(annotation(image, category, box.xyxy) | {"id": len(gold) + 1, "iscrowd": 0})
    for image, line in enumerate(lines):
        for rank, box in enumerate(line["parsed"] or ()):
            category = labels.setdefault(normalize(box["label"] or ""), len(labels) + 1)
            predictions.append(annotation(image, category, box["bbox_2d"]) | {"score": 1 / (rank + 1)})
    if not gold:
        return {}
    return dict(zip(("AP", "AP50", "AP75"), coco_stats(gold, predictions, labels, len(lines)), strict=True))


def annotation(image: int, category: int, xyxy: Sequence[float]) -> dict[str, Any]:
    """A box (x1, y1, x2, y2) in pixels as COCO writes it."""
    x1, y1, x2, y2 = xyxy
    wide, high = max(0.0, x2 - x1), max(0.0, y2 - y1)
    return {"image_id": image, "category_id": category, "bbox": [x1, y1, wide, high], "area": wide * high}


def coco_stats(gold: list[dict], predictions: list[dict], labels: dict[str, int], images: int) -> list[float]:
    """AP, AP50 and AP75 of COCOeval, which needs a predicted box; 0 without any."""
    if not predictions:
        return [0.0, 0.0, 0.0]
    with redirect_stdout(io.StringIO()):  # it prints its progress
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(images)],
            "annotations": gold,
            "categories": [{"id": number, "name": name} for name, number in labels.items()],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(predictions), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:3]]


def finish(lines: list[Line], summary: dict[str, Any]) -> None:
    """Add COCO's AP of the first samples to each prompt mode."""
    for mode in (mode for mode in ("think", "direct") if mode in summary):
        summary[mode] |= dataset_ap([line for line in lines if line["mode"] == mode and line["sample"] == 0])


if __name__ == "__main__":
    parser = parser_of(__doc__, task="od")
    add_generator_flags(parser)
    main(parser, find_rows=generated_rows, finish=finish)
