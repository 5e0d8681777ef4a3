"""Models in 4 bits by bitsandbytes: which layers are rounded, what keeps its type, and how an adapter remembers it.

The linear layers of the language model are stored as NF4 or FP4: 4 bits a weight, one float32 scale for 64 of them
(Dettmers et al. 2023, QLoRA, arXiv:2305.14314). Embeddings, norms, the head, whose weight log-probs read directly, and
the vision tower with its projector keep the run's type. Each layer is dequantized as it computes, so a token's result
depends on no other token, and passes over shared prefixes stay exact.
"""

import json
import logging
import re
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from peft import PeftModel
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils import cached_file

from open_r1.config.model_arguments import VLMConfig
from open_r1.errors import UsageError
from open_r1.models.model_parts import bare_model, language_parameters, vision_parts

FOUR_BIT_FILE = "base_in_4bit.json"
QUANT_TYPES = ("nf4", "fp4")
FEW = 0.5  # of the language model's weights in 4 bits: below it little memory is saved
MISSING = "bitsandbytes is not installed; run bash setup.sh --quant"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FourBit:
    """How the base model is rounded: `quant_type` nf4 or fp4; `nested`: the scales are stored in 8 bits too."""

    quant_type: str = "nf4"
    nested: bool = False

    def __str__(self) -> str:
        return f"4 bit ({self.quant_type}{', nested scales' if self.nested else ''})"

    def save(self, folder: Path) -> None:
        (folder / FOUR_BIT_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def four_bit_of(model_args: VLMConfig) -> FourBit | None:
    """The flags' 4-bit base; None without `--load_in_4bit`."""
    if not model_args.load_in_4bit:
        return None
    return FourBit(model_args.bnb_4bit_quant_type, model_args.use_bnb_nested_quant)


def recorded_four_bit(name: str) -> FourBit | None:
    """The 4-bit base that an adapter, a folder or a hub name, was trained around; None for a base of whole weights.

    Raises UsageError for a file that no run writes.
    """
    path = cached_file(name, FOUR_BIT_FILE, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    try:
        recorded = FourBit(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{name}/{FOUR_BIT_FILE}: got {error}, expected what a run writes; restore the file"
        ) from error
    if recorded.quant_type not in QUANT_TYPES or not isinstance(recorded.nested, bool):
        raise UsageError(f"{name}/{FOUR_BIT_FILE}: got {recorded}, expected nf4 or fp4; restore the file")
    return recorded


def tell_other_base(name: str, four_bit: FourBit | None) -> None:
    """Warn where an adapter goes on around a base model that is rounded otherwise than the one it learned around."""
    if (recorded := recorded_four_bit(name)) != four_bit:
        logger.warning(
            "%s: the adapter was trained around a base model in %s, and goes on around one in %s; its first rewards "
            "may be lower, see --load_in_4bit, --bnb_4bit_quant_type and --use_bnb_nested_quant",
            name,
            *(kind or "whole weights" for kind in (recorded, four_bit)),
        )


def configuration(four_bit: FourBit, empty: PreTrainedModel, dtype: str | torch.dtype) -> BitsAndBytesConfig:
    """What `from_pretrained` is given; `empty`: the model without weights; `dtype`: of the run, "auto" for its own.

    Raises UsageError where bitsandbytes is missing.
    """
    if find_spec("bitsandbytes") is None:
        raise UsageError(f"{four_bit}: {MISSING}")
    own = empty.dtype if dtype == "auto" else dtype
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=four_bit.quant_type,
        bnb_4bit_use_double_quant=four_bit.nested,
        bnb_4bit_compute_dtype=own,
        llm_int8_skip_modules=kept_modules(empty),
    )


def kept_modules(model: PreTrainedModel) -> list[str]:
    """Regular expressions of the names of what stays in whole numbers: vision tower, projector, head."""
    head = model.get_output_embeddings()
    heads = [f"{re.escape(name)}$" for name, module in model.named_modules() if module is head]
    return [*map(re.escape, vision_parts(model)), *heads]


def settle(model: PreTrainedModel) -> None:
    """Make the layers of a model just loaded in 4 bits compute alike in training and evaluation; warn of few.

    On CPUs with bfloat16 instructions bitsandbytes (0.50) lays a layer's weights out anew at its first evaluation,
    and computes them in bfloat16 from then on, in training without a gradient.
    """
    for module in model.modules():
        if is_packed(getattr(module, "weight", None)):
            module.support_avx512bf16_for_cpu = False
    packed, all_weights = packed_weights(model)
    if packed < FEW * all_weights:
        logger.warning(
            "--load_in_4bit: only %.0f %% of the language model's weights are in linear layers, which are rounded; "
            "experts, embeddings and head keep %s and their memory",
            100 * packed / all_weights,
            str(model.dtype).removeprefix("torch."),
        )


def packed_weights(model: PreTrainedModel) -> tuple[int, int]:
    """The numbers of (4-bit, all) weights of the language model."""
    language = {id(p): p for p in language_parameters(model)}.values()
    return sum(weight_count(p) for p in language if is_packed(p)), sum(map(weight_count, language))


def is_packed(weight: torch.Tensor | None) -> bool:
    """Whether a parameter holds two 4-bit weights a byte."""
    return getattr(weight, "quant_state", None) is not None


def weight_count(parameter: torch.Tensor) -> int:
    """The number of weights of a parameter, also of one that is packed.

    >>> weight_count(torch.zeros(2, 3))
    6
    """
    return parameter.quant_state.shape.numel() if is_packed(parameter) else parameter.numel()


def stored_bytes(parameter: torch.Tensor) -> int:
    """The bytes of a parameter, with the scales of one that is packed.

    >>> stored_bytes(torch.zeros(2, 3))
    24
    """
    size = parameter.numel() * parameter.element_size()
    if not is_packed(parameter):
        return size
    state = parameter.quant_state
    scales = [state.absmax, *([state.state2.absmax] if state.nested else [])]
    return size + sum(scale.numel() * scale.element_size() for scale in scales)


def base_text(model: torch.nn.Module) -> str:
    """For the table before training: what of the base model is in 4 bits; empty for whole weights."""
    if (four_bit := base_of(model)) is None:
        return ""
    packed, all_weights = packed_weights(bare_model(model))
    return f"; in {four_bit}: {packed:,} of the {all_weights:,} weights of its language model"


def base_of(model: torch.nn.Module) -> FourBit | None:
    """How the base model of a policy is rounded; None for whole weights."""
    config = getattr(bare_model(model).config, "quantization_config", None)
    if not getattr(config, "load_in_4bit", False):
        return None
    return FourBit(config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant)


def refuse_packed(flag: str, model: torch.nn.Module, names: list[str]) -> None:
    """Raises UsageError where a flag names modules or parameters to train that hold 4-bit weights."""
    for name, parameter in model.named_parameters():
        if is_packed(parameter) and any(name == one or name.startswith(f"{one}.") for one in names):
            raise UsageError(
                f"--{flag}: got {name}, whose weights are in 4 bits and cannot be trained; adapt it by "
                "--lora_target_modules, or leave --load_in_4bit out"
            )


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Name -> the weights of an adapter that is to be trained on, before TRL is given it; {} for a plain model."""
    return {n: p.data for n, p in model.named_parameters() if p.requires_grad} if isinstance(model, PeftModel) else {}


def unround_adapters(model: torch.nn.Module, given: dict[str, torch.Tensor]) -> None:
    """Give adapters float32 weights again, which TRL (1.16) rounds to bfloat16 around a 4-bit base; `given` are those
    of `trained_weights`.

    Steps of a small learning rate would vanish in bfloat16, and adapters around whole weights are float32 too.
    """
    for name, parameter in model.named_parameters() if base_of(model) else ():
        if parameter.requires_grad:
            parameter.data = given.get(name, parameter.data.float() if ".lora_" in name else parameter.data)
