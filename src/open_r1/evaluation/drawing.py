"""Draw predicted and gold outlines on the pictures of rows."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from open_r1.config.model_arguments import VLMConfig
from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.data.unlabeled import has_gold
from open_r1.evaluation.loader import annotators
from open_r1.evaluation.metrics import PredictionLine
from open_r1.evaluation.run import image_limits, load_rows, row_labels
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.models.loading import load_processor
from open_r1.rewards.drawing import answered_outlines, draw_outlines, gold_outlines, has_outlines


def draw_predictions(lines: Sequence[PredictionLine], settings: EvaluationSettings, folder: Path) -> int:
    """Write `folder/SPLIT_LINE_MODE.png` of each picture of rows whose answers have outlines; returns how many.

    Names of further samples and pictures of a row end in their numbers.
    """
    count = 0
    for name, record, completion in drawable_lines(lines, settings):
        folder.mkdir(parents=True, exist_ok=True)
        gold = gold_outlines(record) if has_gold(record) else ()
        prediction = answered_outlines(completion, record)
        for number, picture in enumerate(load_images([record])[0]):
            ending = f"_{number}" if number else ""
            draw_outlines(picture, gold, prediction, number).save(folder / f"{name}{ending}.png")
            count += 1
    return count


def drawable_lines(lines: Sequence[PredictionLine], settings: EvaluationSettings) -> Iterator[tuple[str, Record, str]]:
    """(file name, record with what parsers need, completion) of the lines whose method has outlines."""
    records = load_rows(settings)
    rows = {label: row for row, label in enumerate(row_labels(records))}
    model = VLMConfig(model_name_or_path=settings.model)
    processor = load_processor(model, image_limits(settings), settings.trust_remote_code)
    annotate = annotators(settings, processor)
    for line in lines:
        record = records[rows[line["row"]]]
        if has_outlines(record):
            sample = f"_{line['sample']}" if line["sample"] else ""
            name = re.sub(r"[^\w.-]", "_", f"{line['row']}_{line['mode']}{sample}")
            yield name, annotate[line["mode"]](record), line["completion"]
