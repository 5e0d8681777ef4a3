"""Loads a plain model: its files checked first, its generation configuration made such that it can be saved."""

from typing import Any

from transformers import AutoModelForImageTextToText, PreTrainedModel

from open_r1.config.remote_code import remote_code_errors
from open_r1.models.generation_defaults import make_savable, refuse_generation_config, tell_unused
from open_r1.models.quantization import FourBit, configuration, settle
from open_r1.models.repairs import repair
from open_r1.models.vision_windows import join_windows
from open_r1.models.weights import refuse_wrong_weights


def load_plain(
    name: str, revision: str | None = None, four_bit: FourBit | None = None, **options: Any
) -> PreTrainedModel:
    """A plain model, a folder or a hub name, rounded to 4 bits where asked; `options` go to `from_pretrained`.

    Raises UsageError as `weights.refuse_wrong_weights` and `generation_defaults.refuse_generation_config` do.
    """
    refuse_generation_config(name, revision)
    empty = refuse_wrong_weights(name, revision, options.get("trust_remote_code", False))
    if four_bit is not None:
        options["quantization_config"] = configuration(four_bit, empty, options.get("dtype", "auto"))
    with remote_code_errors(name):
        model = repair(AutoModelForImageTextToText.from_pretrained(name, revision=revision, **options))
    join_windows(model)
    if four_bit is not None:
        settle(model)
    make_savable(model, name)
    tell_unused(model, name)
    return model
