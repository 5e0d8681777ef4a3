"""The fields of transformers' GenerationConfig by the kind of their values; those that `--generation_kwargs` takes."""

import json
import math
from collections.abc import Callable
from typing import Any

from trl import GRPOConfig

from open_r1.errors import look_up, shorten


def _is_number(value: object, low: float = -math.inf, high: float = math.inf, whole: bool = False) -> bool:
    """Whether a value is a finite number, and in its range."""
    kinds = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high


def _is_tokens(value: object) -> bool:
    """Whether a value is a token's number, or a list of them."""
    return all(_is_number(token, whole=True) for token in (value if isinstance(value, list) else [value]))


# Kind of value -> (whether a value is of it, how a message says so).
VALUE_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "token": (_is_tokens, "a token's number, or a list of them"),
    "flag": (lambda value: isinstance(value, bool), "true or false"),
    "count": (lambda value: _is_number(value, 0, whole=True), "a whole number of at least 0"),
    "amount": (lambda value: _is_number(value, 0), "a finite number of at least 0"),
    "factor": (lambda value: _is_number(value, 0) and value > 0, "a finite number above 0"),
    "number": (_is_number, "a finite number"),
    "share": (lambda value: _is_number(value, 0, 1), "a number from 0 to 1"),
    "text": (lambda value: isinstance(value, str), "a text"),
    "list": (lambda value: isinstance(value, (list, dict)), "a list"),
    "object": (lambda value: isinstance(value, dict), "an object"),
    "any": (lambda value: True, "what transformers takes"),
}
KEPT = "token"  # the kind of a model's own values that acts on what is generated here
_FIELDS_OF = {
    "token": "pad_token_id bos_token_id eos_token_id",
    "flag": "do_sample use_mtp use_cache renormalize_logits remove_invalid_values token_healing low_memory "
    "is_assistant output_attentions output_hidden_states output_scores output_logits return_dict_in_generate "
    "disable_compile",
    "count": "max_length max_new_tokens min_length min_new_tokens num_beams max_cache_len top_k no_repeat_ngram_size "
    "encoder_no_repeat_ngram_size num_return_sequences num_assistant_tokens prompt_lookup_num_tokens "
    "max_matching_ngram_size assistant_early_exit assistant_lookbehind target_lookbehind num_beam_groups "
    "prefill_chunk_size",
    "amount": "temperature",
    "factor": "max_time repetition_penalty encoder_repetition_penalty",
    "number": "length_penalty guidance_scale penalty_alpha diversity_penalty",
    "share": "top_p min_p top_h typical_p epsilon_cutoff eta_cutoff assistant_confidence_threshold "
    "assistant_ensemble_weight",
    "text": "cache_implementation num_assistant_tokens_schedule speculation_type",
    "list": "bad_words_ids suppress_tokens begin_suppress_tokens sequence_bias constraints force_words_ids "
    "exponential_decay_length_penalty",
    "any": "early_stopping stop_strings forced_bos_token_id forced_eos_token_id decoder_start_token_id dola_layers",
    "object": "watermarking_config compile_config continuous_batching_config cache_config",
}
# Every field of GenerationConfig -> its kind. A test walks transformers' fields.
GENERATION_FIELDS: dict[str, str] = {name: kind for kind, names in _FIELDS_OF.items() for name in names.split()}


def unfit(key: str, value: object) -> str | None:
    """What is expected in place of a field's value; None where it fits, is null, or the field is unknown.

    >>> unfit("top_p", 2), unfit("top_p", 0.5)
    ('a number from 0 to 1', None)
    """
    fits, expected = VALUE_KINDS[GENERATION_FIELDS.get(key, "any")]
    return None if value is None or fits(value) else expected


# What `--generation_kwargs` takes: settings of how the tokens of one completion are sampled that have no flag.
TRANSFORMERS_KWARGS = (
    "typical_p epsilon_cutoff eta_cutoff top_h min_new_tokens no_repeat_ngram_size exponential_decay_length_penalty "
    "suppress_tokens begin_suppress_tokens bad_words_ids sequence_bias renormalize_logits remove_invalid_values"
)
VLLM_KWARGS = "min_tokens presence_penalty frequency_penalty logit_bias bad_words allowed_token_ids"
# Settings of the engines that are flags here.
FLAG_OF = {name: f"--{name}" for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")}
FLAG_OF |= dict.fromkeys(("max_new_tokens", "max_length", "max_tokens"), "--max_completion_length")
FLAG_OF |= {"cache_implementation": "--cache_implementation", "seed": "--seed", "n": "--num_generations"}
FLAG_OF |= {"num_return_sequences": "--num_generations"}


def check_generation_kwargs(training: GRPOConfig) -> None:
    """Raises ValueError for `--generation_kwargs` that would not change how the tokens of a completion are sampled."""
    known = dict.fromkeys((VLLM_KWARGS if training.use_vllm else TRANSFORMERS_KWARGS).split())
    for key, value in given_kwargs(training.generation_kwargs).items():
        if key in FLAG_OF:
            raise ValueError(f"--generation_kwargs: got {key}, which has a flag of its own; use {FLAG_OF[key]}")
        look_up(key, known, "--generation_kwargs")
        if not training.use_vllm and (expected := unfit(key, value)):
            raise ValueError(f"--generation_kwargs: {key}: got {shorten(value)}, expected {expected}")


def given_kwargs(given: str | dict[str, Any] | None) -> dict[str, Any]:
    """The flag's value, which is a JSON text until the arguments are complete. Raises ValueError for another text."""
    try:
        kwargs = json.loads(given) if isinstance(given, str) else given or {}
    except ValueError:
        kwargs = None
    if not isinstance(kwargs, dict):
        raise ValueError(f"--generation_kwargs: got {shorten(given)}, expected a JSON object")
    return kwargs
