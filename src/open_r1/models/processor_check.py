"""Refuses a processor with which nothing can be made of a picture or a text, before a model is loaded.

Numbers of the image processor are looked at by name. Then the processor is tried on conversations of the shapes that
runs have, in a child process with a deadline: a chat template is a program of somebody else's, which may not end. What
remains: a template that is slow on a text of other content, or longer, than those here.
"""

import hashlib
import math
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin

from open_r1.data.chat import image_count
from open_r1.data.control_tokens import DIALOGUES
from open_r1.errors import UsageError, shorten
from open_r1.models.configuration import one_line, remedy_of
from open_r1.models.deadline import refuse_endless

TEMPLATE_SECONDS, PICTURE_SECONDS = 10.0, 30.0  # for a child that makes all the conversations below
# Words in the names of settings that 0 and negative numbers fit; all others are above 0.
ANY_NUMBER = ("mean", "color", "value", "resample", "offset")
TRIED_PICTURES, TRIED_WORDS = 6, 4000  # of the longest conversation that is tried
WEIGHTS_ONLY = ("model.safetensors.index.json", "config.json", "generation_config.json", "trainer_state.json")
_TRIED: set[str] = set()  # contents of processors that were found to work
CLEARED = "processor_config.json or preprocessor_config.json"


def made_processor(
    name: str, revision: str | None, trust_remote_code: bool, config: PreTrainedConfig | None = None
) -> Any:
    """What AutoProcessor makes of a model's files. Raises UsageError where it makes nothing, and says of a model of
    this `config` whether it reads text alone."""
    try:
        return AutoProcessor.from_pretrained(
            name, revision=revision, padding_side="left", trust_remote_code=trust_remote_code
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise
        if config is not None and config.get_text_config() is config:
            raise reads_text_alone(name, config.model_type) from error
        raise UsageError(f"{name}: its processor cannot be made: {one_line(error)}; {remedy_of(error)}") from error


def reads_text_alone(name: str, kind: str) -> UsageError:
    """The error about a model that has no processor of pictures."""
    expected = "expected a model of pictures and text; choose a vision-language model"
    return UsageError(f"{name}: got a {kind}, which reads text alone, {expected}")


def refuse_settings_of_images(processor: ProcessorMixin, name: str) -> None:
    """Raises UsageError, with the key, for a number of the image processor that is not finite, or not above 0."""
    for key, value in numbers_of(processor.image_processor.to_dict()):
        free = any(word in key.split(".")[0] for word in ANY_NUMBER)
        if not math.isfinite(value) or (value <= 0 and not free):
            raise UsageError(
                f"{name}: image processor: {key}: got {shorten(value)}, expected a finite number"
                f"{'' if free else ' above 0'}; restore {CLEARED} as it came"
            )


def numbers_of(settings: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """(place, value) of the numbers in nested settings; enumerations such as `resample` are none.

    >>> list(numbers_of({"size": {"height": 2}, "do_resize": True, "std": [0.5]}))
    [('size.height', 2), ('std.0', 0.5)]
    """
    if type(settings) in (int, float):
        yield place, settings
    items = settings.items() if isinstance(settings, dict) else ()
    items = enumerate(settings) if isinstance(settings, (list, tuple)) else items
    for key, value in items:
        yield from numbers_of(value, f"{place}.{key}" if place else str(key))


def refuse_broken_processor(processor: ProcessorMixin, name: str) -> None:
    """Raises UsageError where the chat template or the image processor fails, or does not end.

    Files that this process has tried are not tried again.
    """
    if (content := content_of(name)) in _TRIED:
        return
    refuse_endless(
        lambda: _template_fault(processor, name),
        TEMPLATE_SECONDS,
        f"{template_place(name)}: to render a conversation took more than "
        f"{TEMPLATE_SECONDS:g} s of computing; it loops: restore the template as it came",
    )
    refuse_endless(
        lambda: _picture_fault(processor, name),
        PICTURE_SECONDS,
        f"{name}: to process {TRIED_PICTURES} pictures and {TRIED_WORDS} words took more than {PICTURE_SECONDS:g} s "
        "of computing, or too much memory: its sizes or its tokenizer's pattern cannot be used; restore the files "
        "of processor and tokenizer as they came",
    )
    _TRIED.add(content)


def content_of(name: str) -> str:
    """A hash of the files of a folder that make its processor; the name of a model elsewhere."""
    files = sorted(path for ending in ("json", "jinja") for path in Path(name).glob(f"*.{ending}"))
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name not in WEIGHTS_ONLY]
    return " ".join(contents) or name


def template_place(name: str) -> str:
    """Where a model's chat template stands."""
    return (
        f"{name}/chat_template.jinja" if (Path(name) / "chat_template.jinja").is_file() else f"{name}: chat_template"
    )


def short_conversations() -> list[list[dict[str, Any]]]:
    """Chat messages that each model must be able to read: a text, and a picture with a text."""
    picture, text = {"type": "image"}, {"type": "text", "text": "How many dots?"}
    return [[{"role": "user", "content": [text]}], [{"role": "user", "content": [picture, text]}]]


def long_conversation() -> list[dict[str, Any]]:
    """Several turns, with a long text and several pictures, which a model may refuse; it must do so in time."""
    picture, text = {"type": "image"}, {"type": "text", "text": "How many dots?"}
    return [
        {"role": "user", "content": [*[picture] * (TRIED_PICTURES - 1), text]},
        {"role": "assistant", "content": [text]},
        {"role": "user", "content": [picture, {"type": "text", "text": "word " * TRIED_WORDS}]},
    ]


def _template_fault(processor: ProcessorMixin, name: str) -> str | None:
    """What is wrong with the chat template; None where it renders the short conversations."""
    try:
        for conversation in short_conversations():
            rendered(processor, conversation)
    except Exception as error:
        line = template_line(error)
        place = template_place(name) + (f":{line}" if line else "")
        return f"{place}: cannot render a conversation: {one_line(error)}; restore the template as it came"
    for conversation, answered in product((*DIALOGUES, long_conversation()), (True, False)):
        with suppress(Exception):  # a model may refuse it, in any way; rows of that kind meet it
            rendered(processor, conversation, answered)
    return None


def rendered(processor: ProcessorMixin, conversation: list[dict[str, Any]], answered: bool = True) -> str:
    """The text of a conversation, which the model is to answer or which is whole."""
    return processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=answered)


def template_line(error: Exception) -> int | None:
    """The template's line at which an error was raised; None where it is unknown."""
    if isinstance(error, TemplateError) and getattr(error, "lineno", None):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == "<template>"), None)


def _picture_fault(processor: ProcessorMixin, name: str) -> str | None:
    """What is wrong with pictures and tokens; None where the processor makes finite numbers of a picture."""
    torch.set_num_threads(1)  # this is a fork
    try:
        fields = processed(processor, short_conversations()[1])
    except Exception as error:
        if takes_flat_pictures(processor):
            return (
                f"{name}: got a processor ({type(processor).__name__}) that takes pictures as one list, expected one "
                "that takes a list for each conversation, as chat messages need; its family cannot be trained here: "
                "choose another model"
            )
        return f"{name}: its processor fails on a picture and a text: {one_line(error)}; restore {CLEARED} as it came"
    wrong = [key for key, value in fields.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        return f"{name}: its image processor makes NaN or infinity ({wrong[0]}); restore {CLEARED} as it came"
    with suppress(Exception):  # a model may take one picture alone
        processed(processor, long_conversation())
    return None


def processed(processor: ProcessorMixin, conversation: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The fields that a processor makes of a conversation, with a small picture for each of its images."""
    pictures = [small_picture()] * image_count(conversation)
    return processor(text=[rendered(processor, conversation)], images=[pictures], return_tensors="pt")


def small_picture() -> Image.Image:
    """A picture of 96 x 64 pixels with a gradient."""
    return Image.fromarray(np.linspace(0, 255, 3 * 96 * 64).astype(np.uint8).reshape(64, 96, 3))


def takes_flat_pictures(processor: ProcessorMixin) -> bool:
    """Whether a processor takes the picture of a conversation in a flat list, without the conversation's own."""
    try:
        processor(text=[rendered(processor, short_conversations()[1])], images=[small_picture()], return_tensors="pt")
    except Exception:  # broken in another way, which the first trial names
        return False
    return True
