"""Small tokenizers with chat templates of the main styles, for what must hold whatever a family's marks are."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PARTS = (
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{% if p.type == 'image' %}IMAGE"
    "{% elif p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{% endif %}"
)
IMAGES_FIRST = (
    "{% for p in m.content if p.type == 'image' %}IMAGE{% endfor %}"
    "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}"
)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\nPARTS<|im_end|>\n{% endfor %}"
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\nPARTS"
    "<|eot_id|>{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}PARTS{{ eos_token }}"
    "{% elif m.role == 'system' %}PARTS{% else %}[INST]PARTS[/INST]{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\nPARTS<end_of_turn>\n{% endfor %}"
)
DEEPSEEK = "{% for m in messages %}<｜{{ 'Assistant' if m.role == 'assistant' else 'User' }}｜>PARTS{% endfor %}"
PHI = "{% for m in messages %}<|{{ m.role }}|>PARTS<|end|>{% endfor %}"
GLM = "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\nPARTS{% endfor %}"
LLAVA = "{% for m in messages %}{{ m.role | upper }}: PARTS {% endfor %}"


@dataclass(frozen=True)
class Style:
    """A chat template with the family's marks: `tokens` are special, `words` are added tokens that are not."""

    template: str
    image: str
    tokens: tuple[str, ...]
    words: tuple[str, ...] = ()
    parts: str = PARTS
    control: tuple[str, ...] = ()  # marks that are no tokens of the tokenizer
    normalized: tuple[str, ...] = ()  # special tokens that are looked for after NFKC

    @property
    def hostile(self) -> tuple[str, ...]:
        """Every mark that a text may not hold."""
        return (*self.tokens, *self.control, *self.normalized, self.image)


VISION = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
REGIONS = ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>")
STYLES = {
    "chatml": Style(CHATML, "<|image_pad|>", ("<|im_start|>", "<|im_end|>", "<|endoftext|>", *VISION), ("<think>",)),
    "chatml, pictures first": Style(CHATML, "<|image_pad|>", ("<|im_start|>", "<|im_end|>"), (), IMAGES_FIRST),
    "llama 3": Style(LLAMA3, "<|image|>", ("<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|eom_id|>")),
    "mistral, tokens": Style(MISTRAL, "[IMG]", ("<s>", "</s>", "[INST]", "[/INST]", "[IMG_BREAK]", "[TOOL_CALLS]")),
    "mistral, text": Style(MISTRAL, "[IMG]", ("<s>", "</s>"), control=("[INST]", "[/INST]")),
    "gemma": Style(
        GEMMA,
        "<image_soft_token>",
        (
            "<bos>",
            "<eos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            *(f"<unused{i}>" for i in range(99)),
        ),
        ("<h1>", "<table>", "\n\n"),
    ),
    "gemma 4": Style(CHATML, "<|image|>", ("<|im_start|>", "<|im_end|>", "<|image>", "<image|>")),
    "deepseek": Style(DEEPSEEK, "<image_placeholder>", ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")),
    "internvl": Style(CHATML, "<IMG_CONTEXT>", ("<|im_start|>", "<|im_end|>", "<img>", "</img>")),
    "phi": Style(PHI, "<|image_1|>", ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>")),
    "glm": Style(GLM, "<|image|>", ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|begin_of_image|>")),
    "llava": Style(LLAVA, "<image>", ("<s>", "</s>")),
    "normalized": Style(CHATML, "<|image_pad|>", ("<|im_start|>",), normalized=("<|im_end|>", "<|end|>")),
}


def processor_of(style: Style) -> Any:
    """A processor of text alone: tokenizer, image token and chat template, as `control_tokens` reads them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: i for i, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.normalizer = normalizers.NFKC() if style.normalized else None
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (*style.tokens, style.image)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=True) for token in style.normalized])
    tokenizer.add_special_tokens([*REGIONS, "<ref>", "</ref>", "<box>", "</box>"])
    tokenizer.add_tokens(list(style.words))
    names = {"bos_token": style.tokens[0], "eos_token": (*style.tokens, *style.normalized)[1], "pad_token": "!"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = style.template.replace("PARTS", style.parts).replace("IMAGE", style.image)
    return SimpleNamespace(tokenizer=fast, image_token=style.image, apply_chat_template=fast.apply_chat_template)
