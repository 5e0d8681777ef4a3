"""Rules that find the parts of any vision-language model by its structure, listed nowhere.

What cannot be read from a model, how its family writes boxes, is a line of `data.geometry.conventions`.
"""

from collections.abc import Iterator

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError


def language_parameters(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    """Parameters of the language model: its decoder, its embeddings and its head."""
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    return [p for part in parts if part is not None for p in part.parameters()]


def vision_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Parameters of the vision tower and the projector: all outside the language model.

    Raises UsageError for a model that has none there.
    """
    parts = vision_parts(bare_model(model))
    return [p for name, p in model.named_parameters() if any(part in name for part in parts)]


def vision_parts(model: PreTrainedModel) -> tuple[str, ...]:
    """Beginnings of the names of the parameters of the vision tower and the projector: "model.visual.", ...

    Raises UsageError for a model whose language model holds all parameters.
    """
    language = {id(p) for p in language_parameters(model)}
    parts = tuple(_outside(model, "", language))
    if not parts:
        raise UsageError(
            f"model_type {model.config.model_type!r}: its vision modules stand inside its language model; "
            "this model cannot be trained here"
        )
    return parts


def _outside(module: torch.nn.Module, name: str, language: set[int]) -> Iterator[str]:
    """Names of the largest parts of a module that hold no parameter of the language model."""
    for key, parameter in module.named_parameters(recurse=False):
        if id(parameter) not in language:
            yield name + key
    for key, child in module.named_children():
        inside = [id(p) in language for p in child.parameters()]
        if any(inside):
            yield from _outside(child, f"{name}{key}.", language)
        elif inside:
            yield f"{name}{key}."


def image_token_of(config: PreTrainedConfig) -> int:
    """The token that a model replaces by image features, from its configuration."""
    names = ("image_token_id", "image_token_index")
    return next(value for name in names if (value := getattr(config, name, None)) is not None)


def bare_model(model: torch.nn.Module) -> PreTrainedModel:
    """The model inside its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def end_tokens(eos_token_id: int | list[int] | None, processor: ProcessorMixin) -> list[int]:
    """The tokens that end a completion: the tokenizer's, then `eos_token_id` of a generation configuration."""
    eos_token_ids = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id or [])
    return list(dict.fromkeys([processor.tokenizer.eos_token_id, *eos_token_ids]))
