"""A tokenizer with further merges: old texts keep their ids, new ones are few, and embeddings begin as means."""

import json

import pytest
import torch
from longer_tokenizer import lengthen_embeddings, longer_tokenizer
from transformers import AutoModelForImageTextToText, AutoTokenizer

TEXT = "# Tools\n\nYou may call one or more functions: "
CALL = json.dumps({"name": "zoom", "arguments": {"bbox_2d": [0, 28, 56, 84]}})
OLD = [
    "<think>I see 4 7.</think><answer>[4, 7]</answer>",
    "<|im_start|>user\nWhat digits are in this image?<|im_end|>",
]


@pytest.fixture(scope="module")
def tokenizers(tiny, tmp_path_factory):
    before = AutoTokenizer.from_pretrained(tiny)
    folder = tmp_path_factory.mktemp("longer")
    longer_tokenizer(before, [TEXT, CALL]).save_pretrained(folder)
    return before, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", [*OLD, TEXT, CALL, "é ½ \n\t", "functions functionally", "zzoom"])
def test_every_text_comes_back_and_old_ones_keep_their_tokens(tokenizers, text):
    before, after = tokenizers
    ids = after(text)["input_ids"]
    assert after.decode(ids) == text and len(ids) <= len(before(text)["input_ids"])
    assert text not in OLD or ids == before(text)["input_ids"]


def test_words_of_the_texts_are_one_token_each(tokenizers):
    _, after = tokenizers
    for word in (" functions", " Tools", "zoom", "arguments"):
        assert len(after(word)["input_ids"]) == 1, word
    assert after.convert_tokens_to_ids(["<|im_end|>", "<|image_pad|>"]) == [454, 459]


def test_a_new_embedding_begins_as_the_mean_of_its_parts(tokenizers, tiny):
    before, after = tokenizers
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)
    old = model.get_input_embeddings().weight.detach().clone()
    lengthen_embeddings(model, before, after)
    new = model.get_input_embeddings().weight
    assert new.shape[0] == len(after) and torch.equal(new[: len(before)], old)
    assert model.lm_head.weight is new or torch.equal(model.lm_head.weight, new)
    word = after(" functions")["input_ids"]
    parts = before(" functions")["input_ids"]
    assert len(word) == 1
    torch.testing.assert_close(new[word[0]], old[parts].mean(0))
