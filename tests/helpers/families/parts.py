"""Parts of tiny models and processors that all families share: tokenizer, chat template, fields of configurations.

Token ids are the same in every family: `PAD`, `BOS`, `EOS`, then `IMAGE`, the token that the model replaces by image
features; further special tokens; from `TEXT` on the 256 bytes of ordinary text.
"""

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast, ProcessorMixin

PAD, BOS, EOS, IMAGE = range(4)
TEXT, VOCABULARY = 64, 320
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<|im_end|>"}
SIDE = 56  # pixels of a square image or tile
SQUARE = {"height": SIDE, "width": SIDE}
BY_AREA = {"shortest_edge": 28 * 28, "longest_edge": 84 * 84}  # pixels of an image that is resized by its area

Fields = dict[str, Any]  # of a configuration
Built = tuple[PreTrainedConfig, ProcessorMixin]


def tokenizer(*special: str, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges; `named` special tokens are attributes of it too. The first of all these
    is `IMAGE`."""
    tokens = [*SPECIAL.values(), *dict.fromkeys([*special, *named.values(), "<|im_start|>"])]
    ids = {token: i for i, token in enumerate(tokens)}
    ids |= {f"<unused_{i}>": i for i in range(len(tokens), TEXT)}
    ids |= {byte: TEXT + i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = Tokenizer(models.BPE(vocab=ids, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<pad>", extra_special_tokens=named, **SPECIAL)
    made.add_special_tokens(
        {"additional_special_tokens": [*special, "<|im_start|>"]}, replace_extra_special_tokens=False
    )
    return made


def ids(words: PreTrainedTokenizerFast, **tokens: str) -> dict[str, int]:
    """Field of a configuration -> id of its token."""
    return {field: words.convert_tokens_to_ids(token) for field, token in tokens.items()}


def template(image: str, video: str = "") -> str:
    """A chat template that writes `image` where a message has a picture, and `video` where it has a video; without
    one it leaves videos out."""
    shown = f"{{% if part['type'] == 'image' %}}{image}"
    shown += f"{{% elif part['type'] == 'video' %}}{video}" if video else ""
    said = "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    parts = f"{{% for part in m['content'] %}}{shown}{said}{{% endfor %}}"
    content = f"{{% if m['content'] is string %}}{{{{ m['content'] }}}}{{% else %}}{parts}{{% endif %}}"
    turns = f"{{% for m in messages %}}<|im_start|>{{{{ m['role'] }}}}\n{content}<|im_end|>\n{{% endfor %}}"
    return turns + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def config(kind: str, text: Fields, vision: Fields, **more: Any) -> PreTrainedConfig:
    """The configuration of a model of type `kind`."""
    return AutoConfig.for_model(kind, text_config=text, vision_config=vision, **more)


def text(layers: int = 2, **more: Any) -> Fields:
    """Four heads of 16, two of keys and values."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 8192,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        **more,
    }


def vision(**more: Any) -> Fields:
    """A plain tower: two layers over 4 x 4 patches."""
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**tower, "image_size": SIDE, "patch_size": SIDE // 4, **more}


def rope(*section: int, **more: Any) -> Fields:
    """Rotary positions of several channels, `section` frequencies each."""
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(section), **more}


def experts(count: str = "num_experts", **more: Any) -> Fields:
    """Four experts, two for a token; configurations call their `count` differently."""
    return {count: 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, **more}


SLIDING = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8}  # four layers
