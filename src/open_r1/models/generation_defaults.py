"""A model's own `generation_config.json`: checked before the model is loaded, valid when it is saved, without effect
on what this project generates.

A model may bring values that transformers loads and then refuses to save (`temperature` without `do_sample`), and
values that `generate` takes over wherever its caller leaves them unset: a penalty, beams, a least number of tokens.
The first are left out when the model is loaded. Of the second, rollouts, evaluations and answers take the tokens that
end and pad a text alone; all others are those of the flags. What is saved keeps the model's values, for its users.
"""

import copy
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import cached_file

from open_r1.config.generation_fields import GENERATION_FIELDS, KEPT, unfit
from open_r1.errors import UsageError, shorten
from open_r1.models.model_parts import bare_model

logger = logging.getLogger(__name__)

GENERATION_FILE = "generation_config.json"


def refuse_generation_config(name: str, revision: str | None = None) -> None:
    """Raises UsageError, which names file and key, for a `generation_config.json` with a value of no use.

    transformers takes a file that is no JSON for none at all, and other values as they are.
    """
    path = cached_file(name, GENERATION_FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
    values = {} if path is None else _object_of(Path(path), f"{name}/{GENERATION_FILE}")
    for key, value in values.items():
        if expected := unfit(key, value):
            raise UsageError(
                f"{name}/{GENERATION_FILE}: {key}: got {shorten(value)}, expected {expected}; correct or remove it"
            )
    if values.get("do_sample") is True and values.get("temperature") == 0:
        raise UsageError(
            f"{name}/{GENERATION_FILE}: temperature: got 0 with do_sample true; set do_sample false, or a temperature"
        )
    try:
        GenerationConfig.from_dict(values)
    except Exception as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{name}/{GENERATION_FILE}: got values that act in no model: {text}; correct them") from error


def _object_of(path: Path, place: str) -> dict[str, Any]:
    """The JSON object of a file. Raises UsageError, which calls it `place`, for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: got no JSON ({error}), expected an object; restore or delete it") from error
    if not isinstance(values, dict):
        raise UsageError(f"{place}: got {shorten(values)}, expected an object; restore or delete it")
    return values


def make_savable(model: PreTrainedModel, name: str) -> None:
    """Leave out of the model's generation configuration what cannot act, and what transformers refuses to save.

    Values that stand in `config.json`, as old models have them, go to the generation configuration. One line says
    what was left out.
    """
    for key, value in model.config._get_generation_parameters().items():
        delattr(model.config, key)
        if getattr(model.generation_config, key, None) is None:
            setattr(model.generation_config, key, value)
    brought = model.generation_config
    model.generation_config = valid(brought)
    left_out = [(key, value) for key, value in _set(brought) if getattr(model.generation_config, key, None) != value]
    if left_out:
        why = "cannot act without do_sample true or another key beside it, and is left out of what is saved"
        tell(f"{name}/{GENERATION_FILE}: {_listed(left_out)}: {why}")


def valid(config: GenerationConfig) -> GenerationConfig:
    """The configuration without the values for which transformers refuses to save it.

    >>> valid(GenerationConfig(temperature=0.5, repetition_penalty=1.1)).to_diff_dict().keys()
    dict_keys(['repetition_penalty', 'transformers_version'])
    """
    kept = copy.deepcopy(config)
    for key, _ in _set(config):
        setattr(kept, key, None)
    first = ("do_sample", "num_beams", "use_cache", "return_dict_in_generate")  # others act by them
    for key, value in sorted(_set(config), key=lambda item: item[0] not in first):
        setattr(kept, key, value)
        try:
            kept.validate(strict=True)
        except (ValueError, TypeError, AttributeError):
            setattr(kept, key, None)
    return kept


def _set(config: GenerationConfig) -> list[tuple[str, Any]]:
    """(name, value) of the fields that are set."""
    return [(key, value) for key, value in vars(config).items() if key in GENERATION_FIELDS and value is not None]


def own_values(config: GenerationConfig) -> dict[str, Any]:
    """Name -> value of what a model brings beyond its end, begin and pad tokens, other than transformers' defaults.

    Fields that transformers does not know are among them.
    """
    defaults = GenerationConfig._get_default_generation_params()
    return {
        key: value
        for key, value in vars(config).items()
        if not key.startswith("_") and key != "transformers_version" and GENERATION_FIELDS.get(key) != KEPT
        if value is not None and value is not False and value != defaults.get(key)
    }


def tokens_only(config: GenerationConfig) -> GenerationConfig:
    """A generation configuration with the end, begin and pad tokens of another, and nothing else."""
    return GenerationConfig(**{key: getattr(config, key) for key, kind in GENERATION_FIELDS.items() if kind == KEPT})


@contextmanager
def flags_alone(model: torch.nn.Module) -> Iterator[None]:
    """Within it `generate` takes from the model, in its adapters or not, nothing but end, begin and pad tokens."""
    bare = bare_model(model)
    own, bare.generation_config = bare.generation_config, tokens_only(bare.generation_config)
    try:
        yield
    finally:
        bare.generation_config = own


def tell_unused(model: PreTrainedModel, name: str) -> None:
    """Say in one line what the model brings that does not act here."""
    if values := own_values(model.generation_config):
        why = "has no effect here; what is generated goes by the flags alone"
        tell(f"{name}/{GENERATION_FILE}: {_listed(values.items())}: {why}")


def _listed(values: Any) -> str:
    return ", ".join(f"{key}={shorten(value, 40)}" for key, value in values)


@cache
def tell(sentence: str) -> None:
    """Log a sentence once a process, on rank 0."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning("%s", sentence)
