"""Flags of the model and its adapters, over those of TRL; `open_r1.config.parser` parses and checks them."""

import re
from dataclasses import dataclass, field

from trl import ModelConfig

from open_r1.config.training_arguments import GRPOArguments

ALL_LINEAR = "all-linear"


@dataclass
class VLMConfig(ModelConfig):
    """TRL's ModelConfig; `dtype` follows the engine: bfloat16 weights under DeepSpeed (it keeps float32 masters).

    LoRA has no dropout unless asked for: with it no two passes agree, and prefixes cannot be shared.
    """

    lora_vision: bool = field(
        default=False, metadata={"help": "Adapt vision tower and projector too, not the language model alone."}
    )
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Layers by the ends of their names (q_proj v_proj), one regular expression of whole names, or "
            "all-linear, the default."
        },
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA dropout; above 0 it turns --shared_prefix off."})

    load_in_4bit: bool = field(
        default=False,
        metadata={"help": "Hold the base model's linear layers in 4 bits under LoRA; vision and head stay whole."},
    )
    use_bnb_nested_quant: bool = field(
        default=False, metadata={"help": "Store the scales of 4-bit weights in 8 bits too: 0.4 bits a weight less."}
    )

    dtype: str | None = field(
        default=None,
        metadata={
            "help": "Weights' type. Default: bfloat16 with --bf16 and --deepspeed or --load_in_4bit, else float32.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )

    def __post_init__(self) -> None:
        names = self.lora_target_modules
        super().__post_init__()  # makes a string of one name, which peft takes for a pattern of whole names
        if isinstance(names, list) and (len(names) > 1 or re.fullmatch(r"[\w.]+", names[0])):
            self.lora_target_modules = names


def weights_dtype(model: VLMConfig, training: GRPOArguments) -> str:
    """The dtype that weights are loaded in, of a 4-bit base those that are not rounded, see `VLMConfig`."""
    half = training.bf16 and (training.deepspeed or model.load_in_4bit)
    return model.dtype or ("bfloat16" if half else "float32")
