"""The models and processors of `BUILDERS`, made once for each name, and what tells them apart."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from trl.trainer.utils import add_fused_lm_head

from helpers.families.parts import EOS, PAD
from helpers.families.table import BUILDERS, PROCESSORS
from open_r1.models.repairs import repair
from open_r1.models.vision_windows import join_windows
from open_r1.trainer.forward.head_input import keep_head_input
from open_r1.trainer.forward.shared_prefix import share_prefixes

SLOW_DECAY = -2.0  # logarithm of the rate at which states decay: sums stay small, so that rounding does too
DEFAULT_A = "_default_a"  # ends the name of a variant that keeps the decay rates of its states as they are made


def config_of(name: str) -> PreTrainedConfig:
    """A new configuration of the family."""
    return PROCESSORS[name.removesuffix(DEFAULT_A)]()[0]


@cache
def processor_of(name: str) -> ProcessorMixin:
    """The family's processor."""
    return PROCESSORS[name.removesuffix(DEFAULT_A)]()[1]


def tiny(name: str, **text: Any) -> PreTrainedModel:
    """A new model of the family, always the same weights, wide enough that outputs depend on what goes in.

    Its `name_or_path` is `name`; `text` replaces settings of its text configuration.
    """
    torch.manual_seed(0)
    config = config_of(name)
    config.name_or_path = name
    for setting, value in text.items():
        setattr(config.get_text_config(), setting, value)
    model = repair(AutoModelForImageTextToText.from_config(config, dtype=torch.float32))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("A_log") and not name.endswith(DEFAULT_A):
                parameter.fill_(SLOW_DECAY)
            if parameter_name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.mul_(0.3)  # queries and keys of norm 1 saturate the attention of models that do not scale it
            if not parameter_name.endswith("A_log"):
                widen(parameter)
    model.generation_config = GenerationConfig(eos_token_id=[EOS], pad_token_id=PAD, do_sample=True)
    return model


def widen(parameter: torch.Tensor) -> None:
    """Random weights in place: matrices with a gain over 1, vectors near what they are."""
    noise = torch.randn_like(parameter)
    if parameter.dim() > 1:
        parameter.copy_(noise * (0.15 if parameter.shape[-1] < 512 else 0.05))
    else:
        parameter.add_(noise * 0.1)


def ready(name: str) -> PreTrainedModel:
    """The family's model as the trainer makes it: with the fused head, its groups sharing prefixes."""
    model = tiny(name)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    keep_head_input(model)
    join_windows(model)
    share_prefixes(model)
    return model


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {name: partial(tiny, name) for name in BUILDERS}
# One or two of each kind, for tests of one mechanism; tests/models runs all.
NAMES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "internvl", "smolvlm", "idefics3", "llava_onevision"]
NAMES += ["gemma3", "aria"]
