"""`--generation_kwargs` takes what changes how the tokens of a completion are sampled, and names what it does not."""

import json

import pytest

from open_r1.config.generation_fields import GENERATION_FIELDS, TRANSFORMERS_KWARGS, check_generation_kwargs
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.training_arguments import GRPOArguments

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "d.jsonl", "--output_dir", "/tmp/o", "--use_cpu", "true"]
VALUES = {
    "typical_p": 0.9, "epsilon_cutoff": 3e-4, "eta_cutoff": 3e-4, "top_h": 0.5, "min_new_tokens": 4,
    "no_repeat_ngram_size": 3, "exponential_decay_length_penalty": [5, 1.1], "suppress_tokens": [5],
    "begin_suppress_tokens": [5], "bad_words_ids": [[5]], "sequence_bias": [[[5], -2.0]], "renormalize_logits": True,
    "remove_invalid_values": True,
}  # fmt: skip


def said(capsys: pytest.CaptureFixture, **kwargs: object) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*NEEDED, "--generation_kwargs", json.dumps(kwargs)])
    assert stop.value.code == 2
    return capsys.readouterr().err


def parsed(**kwargs: object) -> dict:
    return parse(JsonlArguments, [*NEEDED, "--generation_kwargs", json.dumps(kwargs)])[1].generation_kwargs


def test_what_changes_how_tokens_are_sampled_is_taken():
    assert parsed(**VALUES) == VALUES and set(VALUES) == set(TRANSFORMERS_KWARGS.split())


@pytest.mark.parametrize("name", sorted(GENERATION_FIELDS.keys() - set(TRANSFORMERS_KWARGS.split())))
def test_every_other_field_of_transformers_is_refused_by_name(name):
    training = GRPOArguments(output_dir="/tmp/o", generation_kwargs={name: 3})
    with pytest.raises(ValueError, match=rf"^--generation_kwargs: got '?{name}'?, (which has a flag|expected one of)"):
        check_generation_kwargs(training)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_return_sequences": 3}, "got num_return_sequences, which has a flag of its own; use --num_generations"),
        ({"max_new_tokens": 3}, "got max_new_tokens, which has a flag of its own; use --max_completion_length"),
        ({"temperature": 0.5}, "got temperature, which has a flag of its own; use --temperature"),
        ({"num_beams": 2}, "got 'num_beams', expected one of typical_p, "),
        ({"do_sample": False}, "got 'do_sample', expected one of typical_p, "),
        ({"typical": 0.9}, "did you mean 'typical_p'?"),
        ({"presence_penalty": 1.0}, "got 'presence_penalty', expected one of typical_p, "),
        ({"typical_p": "hot"}, "typical_p: got 'hot', expected a number from 0 to 1"),
        ({"typical_p": 1.5}, "typical_p: got 1.5, expected a number from 0 to 1"),
        ({"min_new_tokens": -1}, "min_new_tokens: got -1, expected a whole number of at least 0"),
        ({"suppress_tokens": "all"}, "suppress_tokens: got 'all', expected a list"),
    ],
)
def test_what_cannot_act_is_refused_through_the_script(capsys, kwargs, message):
    assert message in said(capsys, **kwargs)


@pytest.mark.parametrize("text", ["{", "3", "[1]", "typical_p=0.9", "null"])
def test_what_is_no_object_is_refused(capsys, text):
    with pytest.raises(SystemExit):
        parse(JsonlArguments, [*NEEDED, "--generation_kwargs", text])
    assert f"--generation_kwargs: got {text!r}, expected a JSON object" in capsys.readouterr().err


def test_vllm_takes_its_own_names():
    training = GRPOArguments(output_dir="/tmp/o", use_vllm=True)
    training.generation_kwargs = {"presence_penalty": 1.0, "min_tokens": 4}
    check_generation_kwargs(training)
    training.generation_kwargs = {"typical_p": 0.9}
    with pytest.raises(ValueError, match="got 'typical_p', expected one of min_tokens, presence_penalty"):
        check_generation_kwargs(training)
