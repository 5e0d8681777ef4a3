"""The part of a completion's text that each of its tokens wrote."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import ProcessorMixin


def token_texts(processor: ProcessorMixin, ids: Sequence[int], special: bool = True) -> list[str]:
    """The text that each token adds; a character of several tokens belongs to the last.

    `special`: special tokens by name, else "". Joined they are the whole text, unlike tokens decoded one by one.
    """
    stream, backend = DecodeStream(skip_special_tokens=not special), processor.tokenizer.backend_tokenizer
    return [stream.step(backend, token) or "" for token in ids]
