"""Reads a model's `config.json`, so that what is wrong with it is one sentence before any weight is read."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.integrations import deepspeed

from open_r1.config.remote_code import remote_code_errors
from open_r1.data.model_place import refuse_no_model
from open_r1.errors import UsageError, shorten
from open_r1.models.refusals import package_of, refuse_untrainable

SHARED_SIZES = {
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "merge_size": "spatial_merge_size",
}

PATCHES = tuple(SHARED_SIZES.values())

RUN_CODE = "add --trust_remote_code to run it"


def read_config(
    name: str, revision: str | None = None, trust_remote_code: bool = False, remedy: str = RUN_CODE
) -> PreTrainedConfig:
    """The configuration of a plain model, a folder or a hub name.

    Raises UsageError where it cannot be read, and as `refusals.refuse_untrainable`. `remedy` is for a model that
    brings code of its own.
    """
    config = configuration_of(name, revision, trust_remote_code, remedy)
    refuse_untrainable(config, name)
    return config


def configuration_of(
    name: str, revision: str | None = None, trust_remote_code: bool = False, remedy: str = RUN_CODE
) -> PreTrainedConfig:
    """`read_config` of any model, also of one that cannot be trained here."""
    refuse_no_model(name, revision=revision)
    with remote_code_errors(name, remedy):
        try:
            return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        except Exception as error:
            if "trust_remote_code" in str(error):
                raise
            raise UsageError(
                f"{name}: its config.json cannot be used: {one_line(error)}; {remedy_of(error)}"
            ) from error


def remedy_of(error: Exception) -> str:
    """What to do about a configuration or a file that cannot be read."""
    if package := package_of(error):
        return f"it needs the package {package}: pip install {package}"
    if isinstance(error, OSError):
        return "correct the path or the name, or download the model whole"
    return "restore the file as it came, or choose another model"


def empty_model(config: PreTrainedConfig, name: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model of a configuration without weights, on torch's `meta` device. Raises UsageError for none."""
    usual = set(infinite_by_default(config))
    if wrong := next((found for found in wrong_numbers(config.to_dict()) if found[0] not in usual), None):
        place, value = wrong
        raise UsageError(f"{name}/config.json: {place}: got {shorten(value)}, which no model has; restore the file")
    try:
        with torch.device("meta"), without_zero3():
            return AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise UsageError(
            f"{name}: its config.json describes no model that can be made: {one_line(error)}; restore the file as it "
            "came, or choose a vision-language model that transformers knows"
        ) from error


def infinite_by_default(config: PreTrainedConfig, place: str = "") -> Iterator[str]:
    """Places of numbers that the classes of a configuration and of its parts make infinite: limits that do not act,
    such as the `time_step_limit` of Mamba 2.

    >>> from transformers import BambaConfig
    >>> list(infinite_by_default(BambaConfig()))
    ['time_step_limit.1']
    """
    yield from (place + where for where, value in wrong_numbers(type(config)().to_dict()) if value == math.inf)
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from infinite_by_default(part, f"{place}{name}.")


def wrong_numbers(settings: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of each number in nested settings that is not finite, and of each side of a patch below 1.

    >>> list(wrong_numbers({"a": {"b": [1, float("inf")]}}))
    [('a.b.1', inf)]
    """
    is_number = isinstance(settings, (int, float))
    if is_number and (not math.isfinite(settings) or (settings < 1 and place.endswith(PATCHES))):
        yield place, settings
    items = (
        settings.items() if isinstance(settings, dict) else enumerate(settings) if isinstance(settings, list) else ()
    )
    for key, value in items:
        yield from wrong_numbers(value, f"{place}.{key}" if place else str(key))


def refuse_other_sizes(config: PreTrainedConfig, processor: ProcessorMixin, name: str) -> None:
    """Raises UsageError where the processor cuts pictures into other patches than the vision tower takes."""
    images, vision = processor.image_processor, getattr(config, "vision_config", None)
    for theirs, ours in SHARED_SIZES.items():
        size, expected = getattr(images, theirs, None), getattr(vision, ours, None)
        if isinstance(size, int) and isinstance(expected, int) and size != expected:
            raise UsageError(
                f"{name}: {theirs} of the image processor: got {size}, expected {expected}, {ours} of the model's "
                "vision_config; restore preprocessor_config.json or processor_config.json as they came"
            )


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's type and the beginning of its text, as one line without a full stop.

    >>> one_line(ValueError("a\\n  b."))
    'ValueError: a b'
    """
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


@contextmanager
def without_zero3() -> Iterator[None]:
    """Without DeepSpeed's partitioned initialization, under which transformers reports no unexpected weights."""
    active = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = active
