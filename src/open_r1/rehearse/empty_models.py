"""Models on the fake device, made of a configuration alone, as a run makes them of weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import trl.trainer.grpo_trainer as trl_grpo
from transformers import AutoModelForImageTextToText, GenerationConfig, PreTrainedConfig, PreTrainedModel

from open_r1.config.model_arguments import weights_dtype
from open_r1.errors import UsageError
from open_r1.models.configuration import read_config
from open_r1.models.quantization import four_bit_of
from open_r1.models.repairs import repair
from open_r1.models.vision_windows import join_windows
from open_r1.rehearse.flags import Rehearsed
from open_r1.rehearse.four_bit import pack_weights
from open_r1.rehearse.on_device import DEVICE
from open_r1.rehearse.ways_round import replaced


def rehearsed_configuration(asked: Rehearsed) -> PreTrainedConfig:
    """The model's configuration; with --processor the numbers of special tokens are those of that folder."""
    config = read_config(asked.model.model_name_or_path, asked.model.model_revision)
    if asked.own.processor:
        other = read_config(asked.own.processor)
        if other.model_type != config.model_type:
            raise UsageError(
                f"--processor: got one of {other.model_type}, expected one of {config.model_type}, the model's family"
            )
        for mine, theirs in ((config, other), (config.get_text_config(), other.get_text_config())):
            for name, value in vars(theirs).items():
                if name.endswith("_token_id"):
                    setattr(mine, name, value)
    return config


def without_weights(config: PreTrainedConfig, asked: Rehearsed) -> PreTrainedModel:
    """The model of a configuration on the fake device, as `load_model` makes it of weights."""
    dtype = getattr(torch, weights_dtype(asked.model, asked.training).replace("auto", "bfloat16"))
    with torch.device(DEVICE):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
    if (four_bit := four_bit_of(asked.model)) is not None:
        pack_weights(model, four_bit, dtype)
    join_windows(repair(model))
    folder = Path(asked.own.processor or asked.model.model_name_or_path)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.config._name_or_path = asked.model.model_name_or_path
    return model


@contextmanager
def reference_without_weights(config: PreTrainedConfig, asked: Rehearsed) -> Iterator[None]:
    """Inside this context TRL makes its reference model of the configuration too."""
    with replaced(trl_grpo, "create_model_from_path", lambda name, **options: without_weights(config, asked)):
        yield
