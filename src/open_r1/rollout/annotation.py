"""Add to each record what rewards need of the model and of the image."""

from collections.abc import Callable

from transformers import ProcessorMixin

from open_r1.data.images import size_fields
from open_r1.data.record import Record
from open_r1.models.families import FAMILIES
from open_r1.models.loading import pixel_limits


def annotator(model_type: str, processor: ProcessorMixin, prompt_mode: str) -> Callable[[Record], Record]:
    """A function that adds to a record's `extra` the original sizes of its images (`data.images.size_fields`), the
    family of the model's coordinates, its pixel limits and the prompt mode."""
    low, high = pixel_limits(processor)
    family = FAMILIES[model_type].coordinates if model_type in FAMILIES else model_type
    model_facts = {"model_family": family, "min_pixels": low, "max_pixels": high, "prompt_mode": prompt_mode}

    def annotate(record: Record) -> Record:
        return record.with_extra(**model_facts, **size_fields(record))

    return annotate
