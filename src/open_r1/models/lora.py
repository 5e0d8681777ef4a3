"""LoRA: the layers that a new adapter gets, loading an adapter to train it further, checks of the flags.

TRL puts a new adapter around the model; with `--beta` its reference policy is the same model with the adapter
switched off. An adapter given as `--model_name_or_path` is trained further; its reference is the adapter as loaded.
`local_scripts/merge_lora.py` makes a plain model of either.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import check_target_module_exists
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import find_adapter_config_file
from trl import get_peft_config

from open_r1.config.model_arguments import ALL_LINEAR, VLMConfig
from open_r1.config.validation import lora_flags
from open_r1.data.model_place import refuse_no_model
from open_r1.errors import UsageError
from open_r1.models.adapter_check import PATTERN_SECONDS, refuse_wrong_adapter
from open_r1.models.deadline import refuse_endless
from open_r1.models.plain import load_plain
from open_r1.models.quantization import refuse_packed

ADAPTABLE = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


def adapter_config(name: str, revision: str | None = None) -> dict[str, Any] | None:
    """`adapter_config.json` of an adapter (a folder or a hub name); None for a plain model.

    Raises UsageError for a file that is no LoRA adapter's.
    """
    refuse_no_model(name, revision=revision)
    path = find_adapter_config_file(name, revision=revision)
    if path is None:
        return None
    place = f"{name}/adapter_config.json"
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: got no JSON ({error}), expected an object; restore the file") from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base.strip():
        raise UsageError(f"{place}: base_model_name_or_path: got none, expected the base model's name; write it there")
    if (Path(base) / "adapter_config.json").is_file():
        raise UsageError(
            f"{place}: base_model_name_or_path: got {base!r}, an adapter itself, expected a plain model; merge that "
            "one first (local_scripts/merge_lora.py), and name the merged model there"
        )
    if config.get("peft_type") != "LORA":
        raise UsageError(
            f"{place}: peft_type: got {config.get('peft_type')!r}, expected 'LORA', the one kind of adapter that is "
            "known here; merge the adapter with the program that made it, and give the merged model"
        )
    return config


def load_adapter(name: str, base: str | None = None, trained: bool = False, **options: Any) -> PeftModel:
    """An adapter around `base`, or the base model it names; `options` go to `load_plain`.

    Raises UsageError where the base cannot be loaded, and where the adapter is not whole or does not fit it.
    """
    config = adapter_config(name) or {}
    base = base or config["base_model_name_or_path"]
    revision = config.get("revision") if not Path(base).exists() else None
    try:
        refuse_wrong_adapter(name, base, revision, options.get("trust_remote_code", False))
        model = load_plain(base, revision, **options)
    except UsageError as error:
        if not str(error).startswith((f"{base}:", f"model: got {base},")):
            raise
        raise UsageError(
            f"{name}/adapter_config.json: base_model_name_or_path: got {base!r}, which cannot be loaded ({error}); "
            "correct it there, or merge with local_scripts/merge_lora.py --base"
        ) from error
    model = PeftModel.from_pretrained(
        model, name, is_trainable=trained, autocast_adapter_dtype=not is_deepspeed_zero3_enabled()
    )
    # TRL adds the reference as a second adapter; saved beside this one, transformers would resume from it instead
    model.save_pretrained = partial(model.save_pretrained, selected_adapters=["default"])
    return model


def refuse_adapter_flags(model_args: VLMConfig) -> None:
    """Raises UsageError where an adapter to train comes without `--use_peft`, or with a new adapter's flags."""
    name = model_args.model_name_or_path
    if not model_args.use_peft:
        raise UsageError(
            f"--model_name_or_path: got {name}, an adapter, without --use_peft true; add it to go on training the "
            f"adapter, or make a plain model of it: python local_scripts/merge_lora.py {name} --out FOLDER"
        )
    default = VLMConfig()
    changed = [flag for flag in lora_flags() if getattr(model_args, flag) != getattr(default, flag)]
    if changed:
        raise UsageError(
            f"--{changed[0]}: cannot act on {name}: the adapter has its own, in adapter_config.json; remove the flag, "
            "or merge the adapter first (local_scripts/merge_lora.py) and train a new one"
        )


def lora_config(model_args: VLMConfig, model: PreTrainedModel | PeftModel, vision: tuple[str, ...]) -> Any:
    """The configuration of a new adapter, by `--use_peft` and its flags; None without, or where the model has one.

    `vision` is `families.vision_parts(model)`. Raises UsageError for names that match nothing.
    """
    if not model_args.use_peft or isinstance(model, PeftModel):
        return None
    _refuse_endless_pattern(model_args, model)
    config = get_peft_config(model_args)
    config.target_modules = adapted_layers(model_args, model, vision)
    check_vision = partial(_outside_vision, model_args=model_args, vision=vision)
    if model_args.lora_modules_to_save:
        names = [name for name, _ in model.named_modules()]
        flag = "lora_modules_to_save"
        check_vision(flag, matched := _matched_names(flag, model_args.lora_modules_to_save, names))
        refuse_packed(flag, model, matched)
        _refuse_tied(model_args.lora_modules_to_save, model)
    if model_args.lora_target_parameters:
        names = [name for name, _ in model.named_parameters()]
        flag = "lora_target_parameters"
        check_vision(flag, matched := _matched_names(flag, model_args.lora_target_parameters, names))
        refuse_packed(flag, model, matched)
    return config


def _refuse_endless_pattern(model_args: VLMConfig, model: PreTrainedModel) -> None:
    """Raises UsageError for a regular expression in `--lora_target_modules` that is none, or does not end."""
    pattern, names = model_args.lora_target_modules, [name for name, _ in model.named_modules()]
    if not isinstance(pattern, str) or pattern == ALL_LINEAR:
        return

    def fault() -> str | None:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            return f"--lora_target_modules: got {pattern!r}, which is no regular expression: {error}; correct it"
        for name in names:
            expression.fullmatch(name)
        return None

    endless = f"--lora_target_modules: got {pattern!r}: to match it against the model's layers took more than"
    refuse_endless(fault, PATTERN_SECONDS, f"{endless} {PATTERN_SECONDS:g} s; write it without nested repetitions")


def adapted_layers(model_args: VLMConfig, model: PreTrainedModel, vision: tuple[str, ...]) -> list[str]:
    """Full names of the layers that get an adapter: all linear ones by default; with `--lora_vision` of vision too.

    The head gets none: log-probs read its weight directly.
    """
    target, flag = model_args.lora_target_modules, "lora_target_modules"
    if target in (None, ALL_LINEAR):
        adapted = list(linear_layers(model))
    else:
        layers = dict(model.named_modules())
        head = next((name for name, module in layers.items() if module is model.get_output_embeddings()), None)
        patterns = [target] if isinstance(target, str) else target
        adapted = _matched_names(flag, patterns, layers, regular=isinstance(target, str))
        if wrong := [name for name in adapted if name == head or not isinstance(layers[name], ADAPTABLE)]:
            why = (
                "log-probs read the head's weight directly; --lora_modules_to_save trains it whole"
                if wrong == [head]
                else f"a {type(layers[wrong[0]]).__name__} takes no adapter; name layers such as q_proj"
            )
            raise UsageError(f"--{flag}: got {target!r}, which matches {wrong[0]}; {why}")
    return _outside_vision(flag, adapted, model_args, vision)


def linear_layers(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """All linear layers but the head, by full name: those that get an adapter by default."""
    head = model.get_output_embeddings()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head}
    return {name: module for name, module in linear.items() if not _computes_more(type(module))}


def _computes_more(kind: type[torch.nn.Linear]) -> bool:
    """Whether a linear layer is a model's own that returns something else (Llama 4's router: two tensors)."""
    return kind.__module__.startswith("transformers.models.") and kind.forward is not torch.nn.Linear.forward


def _matched_names(flag: str, patterns: Iterable[str], names: Iterable[str], regular: bool = False) -> list[str]:
    """The names that a pattern matches as peft does: by a name's last parts, or as a `regular` expression.

    Raises UsageError with near names for a pattern that matches none.
    """
    names, matches = list(names), []
    for pattern in patterns:
        config = LoraConfig(target_modules=pattern if regular else [pattern])
        hits = [name for name in names if name and check_target_module_exists(config, name)]
        if not hits:
            parts = sorted({name.rsplit(".", 1)[-1] for name in names} - {""})
            parts = [part for part in parts if not part.isdigit()]
            near = difflib.get_close_matches(pattern, parts, n=3, cutoff=0.4) or parts[:8]
            raise UsageError(
                f"--{flag}: got {pattern!r}, which matches nothing in this model; near: {', '.join(near)}"
            )
        matches += hits
    return list(dict.fromkeys(matches))


def _outside_vision(flag: str, names: list[str], model_args: VLMConfig, vision: tuple[str, ...]) -> list[str]:
    """The names outside the vision modules; all of them with `--lora_vision`.

    Raises UsageError where none is outside.
    """
    in_vision = [name for name in names if any(part in f"{name}." for part in vision)]
    if model_args.lora_vision:
        if flag == "lora_target_modules" and not in_vision:
            raise UsageError(f"--lora_vision: got true, but --{flag} names no layer of the vision modules; remove one")
        return names
    if flag == "lora_target_modules" and len(in_vision) < len(names):
        return [name for name in names if name not in set(in_vision)]
    if in_vision:
        raise UsageError(f"--{flag}: got {in_vision[0]}, a vision module; add --lora_vision true, or remove it")
    return names


def _refuse_tied(modules_to_save: list[str], model: PreTrainedModel) -> None:
    """Raises UsageError for an embedding or head that this model ties to the other."""
    tied = {id(module) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    ends = tuple(modules_to_save)
    wrong = [name for name, module in model.named_modules() if id(module) in tied and name.endswith(ends)]
    if wrong and model.config.get_text_config().tie_word_embeddings:
        raise UsageError(
            f"--lora_modules_to_save: got {wrong[0]}, which this model ties to its other embedding: trained alone "
            "they would part, and no merged model could hold both; leave it out"
        )


def adapter_counts(model: PeftModel) -> dict[str, int]:
    """Kind of adapted layer (the last part of its name) -> how many there are, for the log."""
    layers = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    return dict(sorted(Counter(layer.rsplit(".", 1)[-1] for layer in layers).items()))
