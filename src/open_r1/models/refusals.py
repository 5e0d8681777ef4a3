"""Models that cannot be trained here, told from their configuration before anything of them is loaded.

Rules come first; `UPSTREAM` holds what no configuration tells. Each sentence is reproduced by a test.
"""

import inspect
from collections.abc import Iterator

from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.utils import is_timm_available

from open_r1.errors import UsageError

BY_TIMM = ("timm_", "gemma3n_vision")  # model types of vision towers
# Settings of text models that change the logits; TRL's head applies them in training, whatever the model does.
LOGIT_SCALINGS = (
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
    "final_logit_softcapping",
)
CROSS_ATTENTION = ("cross_attention_layers", "cross_layer_interval", "add_cross_attention")
# By config.model_type: why it cannot be trained here, in words that follow "model_type ...: ".
UPSTREAM: dict[str, str] = {
    "paligemma": "its prompts see themselves in both directions, and TRL hands completions on as prompt tokens: "
    "padded rows have other log-probs than generation",
    "diffusion_gemma": "it generates by diffusion, whose completions have no log-probs of tokens in order",
    "pi0": "it answers with actions of a robot, not with text",
    "evolla": "it reads proteins, not pictures",
    "blip": "its language model looks at pictures by cross attention; only models whose prompts hold them are trained",
    **dict.fromkeys(("git", "kosmos-2", "kosmos-2.5"), "it captions pictures, without a chat whose prompts hold them"),
    "shieldgemma2": "it classifies pictures by one token and generates no text",
}


def refuse_untrainable(config: PreTrainedConfig, name: str) -> None:
    """Raises UsageError for a configuration of a model that cannot be trained, evaluated or planned here."""
    if reason := why_untrainable(config):
        raise UsageError(
            f"{name}: got model_type {config.model_type!r}: {reason}; choose another model, such as "
            "Qwen/Qwen2.5-VL-3B-Instruct"
        )
    if package := missing_package(config):
        raise UsageError(
            f"{name}: model_type {config.model_type!r} needs the package {package}: pip install {package}"
        )


def why_untrainable(config: PreTrainedConfig) -> str | None:
    """Why a model cannot be trained here; None where nothing speaks against it."""
    if reason := UPSTREAM.get(config.model_type):
        return reason
    parts = list(nested_configs(config))
    if any(getattr(part, "is_encoder_decoder", False) for part in parts):
        return "it is an encoder and a decoder; only models that read prompt and completion as one text are trained"
    if any(getattr(part, key, None) for part in parts for key in CROSS_ATTENTION):
        return "its layers look at pictures by cross attention; only models whose prompts hold them are trained"
    if generates_from_pictures_alone(config):
        return "its generate() needs pixel_values, so that it answers no text alone and no prompt that was read before"
    if dropped := dropped_scaling(config):
        return (
            f"transformers leaves out the {dropped} of its language model when it generates, so that sampled "
            "completions have other log-probs than the model's"
        )
    return None


def nested_configs(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """A configuration and those inside it."""
    yield config
    for part in vars(config).values():
        if isinstance(part, PreTrainedConfig):
            yield from nested_configs(part)


def generates_from_pictures_alone(config: PreTrainedConfig) -> bool:
    """Whether the model's own `generate` cannot be called without pictures (BLIP-2, InstructBLIP)."""
    model = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(type(config), None)
    generate = getattr(model, "generate", None)
    pixels = inspect.signature(generate).parameters.get("pixel_values") if generate else None
    return pixels is not None and pixels.default is inspect.Parameter.empty


def dropped_scaling(config: PreTrainedConfig) -> str | None:
    """The setting by which the language model scales its logits, and the model around it, which has a head of its own,
    does not; None where there is none."""
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return None
    text = config.get_text_config()
    scaled = [name for name in LOGIT_SCALINGS if getattr(text, name, None) not in (None, 1, 1.0)]
    if not scaled:
        return None
    source = inspect.getsource(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)])  # inspect parses the whole file
    return next((name for name in scaled if name not in source), None)


def missing_package(config: PreTrainedConfig) -> str | None:
    """The package that a part of the model is made by and that is not installed; None for none."""
    by_timm = any(part.model_type.startswith(BY_TIMM) for part in nested_configs(config))
    return "timm" if by_timm and not is_timm_available() else None


def package_of(error: BaseException) -> str | None:
    """The package that an ImportError of transformers asks for; None for other errors.

    >>> package_of(ImportError("X requires the timm library. Install it with `pip install timm`."))
    'timm'
    """
    text = str(error)
    _, found, command = text.partition("pip install ")
    return command.split()[0].strip("`.'\"") if isinstance(error, ImportError) and found else None
