"""Add to each record what rewards need of the model and of the image: the space of its boxes above all."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from transformers import ProcessorMixin

from open_r1.data.geometry.conventions import convention_of, published_form
from open_r1.data.geometry.coordinates import SPACES, smart_resize
from open_r1.data.images import size_fields
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.models.loading import pixel_limits

TRIED_SIZES = ((131, 67), (640, 425))  # (width, height) by which a processor's resizing is known


@dataclass(frozen=True)
class BoxFrame:
    """The space of a model's boxes, and what its processor makes of pictures.

    `space`: a key of `SPACES`, or None where none is known; `missing` then says so. `factor`: the multiple of resized
    sides in pixels, 0 where the processor resizes in another way.
    """

    family: str
    space: str | None
    min_pixels: int
    max_pixels: int
    factor: int
    missing: str = ""


def box_frame(family: str, processor: ProcessorMixin, asked: str | None = None) -> BoxFrame:
    """The frame of a `config.model_type` with its processor; `asked` is `--box_space`, which wins.

    Raises UsageError for "resized" with a processor that resizes otherwise than `smart_resize` does.
    """
    space, (low, high) = asked or convention_of(family).space, pixel_limits(processor)
    factor = resize_factor(processor) if space == "resized" else 0
    missing = "" if space else f"--box_space: got none, and the answers are places on pictures; {_choices(family)}"
    if space == "resized" and not factor:
        missing = (
            f"--box_space: got resized, but {type(processor.image_processor).__name__} resizes in a way of its own, "
            f"which boxes cannot be converted from; {_choices(family)}"
        )
        if asked:
            raise UsageError(missing)
    return BoxFrame(family, space, low, high, factor, missing)


def _choices(family: str) -> str:
    return f"of model_type {family!r} {published_form(family)}: add --box_space with one of {', '.join(SPACES)}"


def resize_factor(processor: ProcessorMixin) -> int:
    """The multiple, in pixels, that `smart_resize` gives sides; 0 where the processor resizes in another way."""
    images = processor.image_processor
    limits = pixel_limits(processor)
    if not limits[1]:
        return 0
    factor = images.patch_size * images.merge_size
    grid = images([Image.new("RGB", size) for size in TRIED_SIZES], return_tensors="pt").get("image_grid_thw")
    expected = [list(smart_resize(height, width, factor, *limits)) for width, height in TRIED_SIZES]
    resized = None if grid is None else (grid[:, 1:] * images.patch_size).tolist()
    return factor if resized == expected else 0


def annotator(frame: BoxFrame, prompt_mode: str) -> Callable[[Record], Record]:
    """A function that adds to a record's `extra` the original sizes of its images (`data.images.size_fields`), the
    model's family and the space of its boxes, its pixel limits and the prompt mode."""
    model_facts = {
        "model_family": frame.family,
        "box_space": frame.space,
        "min_pixels": frame.min_pixels,
        "max_pixels": frame.max_pixels,
        "resize_factor": frame.factor,
        "prompt_mode": prompt_mode,
    }

    def annotate(record: Record) -> Record:
        return record.with_extra(**model_facts, **size_fields(record))

    return annotate
