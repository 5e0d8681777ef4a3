"""A model's own generation configuration: refused by key, saved without fault, without effect on rollouts."""

import copy
import json

import pytest
import torch
from helpers.broken_models import changed
from helpers.families import EOS, NAMES, PAD, group_prompts
from helpers.families import tiny as tiny_family
from helpers.trainers import make_trainer, rows
from transformers import AutoModelForImageTextToText, GenerationConfig

from open_r1.config.generation_fields import GENERATION_FIELDS, KEPT
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of
from open_r1.evaluation.settings import settings_of
from open_r1.evaluation.transformers_engine import TransformersEngine
from open_r1.models.generation_defaults import (
    GENERATION_FILE,
    flags_alone,
    make_savable,
    own_values,
    refuse_generation_config,
    tell,
    tokens_only,
    valid,
)
from open_r1.models.loading import load_processor
from open_r1.models.plain import load_plain
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompt_cache import why_no_prefill

# A value of each field that acts, of its own kind.
ACTING = {
    "flag": True,
    "count": 3,
    "amount": 0.4,
    "factor": 1.7,
    "number": 1.5,
    "share": 0.6,
    "text": "static",
    "list": [[5]],
    "token": 3,
}
SPECIAL = {
    "suppress_tokens": [5],
    "begin_suppress_tokens": [5],
    "sequence_bias": [[[5], -9.0]],
    "exponential_decay_length_penalty": [1, 1.5],
    "stop_strings": ["a"],
    "early_stopping": True,
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 2,
    "decoder_start_token_id": 1,
    "dola_layers": "low",
    "watermarking_config": {"bias": 2.0},
    "compile_config": {"fullgraph": True},
    "continuous_batching_config": {},
    "cache_config": {},
    "num_assistant_tokens_schedule": "heuristic",
    "speculation_type": "lookup",
    "max_time": 0.001,
}
# What models of the hub bring, and what would change any policy.
NASTY = {
    "do_sample": True,
    "temperature": 1e-6,
    "top_k": 1,
    "repetition_penalty": 9.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 6,
    "num_beams": 2,
    "bad_words_ids": [[token] for token in range(20, 100)],
    "exponential_decay_length_penalty": [0, 50.0],
    "forced_eos_token_id": EOS,
    "sequence_bias": [[[101], 99.0]],
    "renormalize_logits": True,
}


def acting(name: str):
    return SPECIAL.get(name, ACTING.get(GENERATION_FIELDS[name]))


def test_every_field_of_transformers_is_classified():
    fields = {name for name in vars(GenerationConfig()) if not name.startswith("_")} - {"transformers_version"}
    assert fields == GENERATION_FIELDS.keys()
    assert {name for name, kind in GENERATION_FIELDS.items() if kind == KEPT} == {
        "eos_token_id",
        "pad_token_id",
        "bos_token_id",
    }


@pytest.mark.parametrize("name", GENERATION_FIELDS)
def test_each_field_can_be_saved_and_has_no_effect_here(name, tmp_path):
    (tmp_path / GENERATION_FILE).write_text(
        json.dumps({name: acting(name), "eos_token_id": [3, 7], "pad_token_id": 3})
    )
    try:
        refuse_generation_config(str(tmp_path))
    except UsageError as error:
        assert name in str(error) or "values that act in no model" in str(error)
        return
    brought = GenerationConfig.from_pretrained(tmp_path)
    kept = valid(brought)
    kept.save_pretrained(tmp_path)
    GenerationConfig.from_pretrained(tmp_path).validate(strict=True)
    alone = {key for key, value in vars(tokens_only(kept)).items() if value is not None and not key.startswith("_")}
    assert alone - {"transformers_version"} <= {"eos_token_id", "pad_token_id", "bos_token_id"}
    assert tokens_only(kept).eos_token_id == brought.eos_token_id
    assert (name in own_values(brought)) == (GENERATION_FIELDS[name] != KEPT and name not in ("use_cache",))


@pytest.mark.parametrize(
    ("brought", "left_out"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, {"temperature", "top_p"}),
        ({"top_k": 5}, {"top_k"}),
        ({"min_p": 0.1}, {"min_p"}),
        ({"typical_p": 0.5}, {"typical_p"}),
        ({"epsilon_cutoff": 0.1}, {"epsilon_cutoff"}),
        ({"eta_cutoff": 0.1}, {"eta_cutoff"}),
        ({"top_h": 0.3}, {"top_h"}),
        ({"length_penalty": 2.0}, {"length_penalty"}),
        ({"early_stopping": True}, {"early_stopping"}),
        ({"output_scores": True}, {"output_scores"}),
        ({"pad_token_id": -1}, {"pad_token_id"}),
        ({"use_cache": False, "cache_implementation": "static"}, {"cache_implementation"}),
        ({"do_sample": True, "temperature": 0.9, "top_p": 0.6}, set()),
        ({"num_beams": 2, "length_penalty": 2.0}, set()),
        ({"repetition_penalty": 1.05, "temperature": 0.9}, {"temperature"}),
    ],
)
def test_what_cannot_act_is_left_out_and_the_rest_is_kept(brought, left_out, tmp_path):
    kept = valid(GenerationConfig.from_dict(brought))
    assert {name for name in brought if getattr(kept, name) is None} == left_out
    kept.save_pretrained(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": ', "[]", "3", '"x"', "",
        '{"temperature": "hot"}', '{"temperature": NaN}', '{"temperature": Infinity}', '{"temperature": -1}',
        '{"do_sample": true, "temperature": 0}', '{"do_sample": "yes"}', '{"do_sample": 1}', '{"top_p": 1.5}',
        '{"top_p": "0.9"}', '{"top_k": -1}', '{"top_k": 1.5}', '{"top_k": true}', '{"repetition_penalty": 0}',
        '{"repetition_penalty": [1]}', '{"num_beams": "two"}', '{"min_new_tokens": -3}', '{"max_new_tokens": 0}',
        '{"eos_token_id": "</s>"}', '{"eos_token_id": [1, "2"]}', '{"pad_token_id": 1.0}', '{"pad_token_id": {}}',
        '{"bad_words_ids": 3}', '{"use_cache": 0}', '{"no_repeat_ngram_size": 1e400}',
        '{"cache_implementation": "nosuch"}', '{"num_return_sequences": 3}', '{"logits_processor": []}',
        '{"watermarking_config": 3}', '{"suppress_tokens": "all"}', '{"early_stopping": "maybe"}',
    ],
)  # fmt: skip
def test_odd_values_are_refused_by_file_and_key(text, tmp_path):
    (tmp_path / GENERATION_FILE).write_text(text)
    with pytest.raises(UsageError) as refused:
        refuse_generation_config(str(tmp_path))
    said = str(refused.value)
    assert GENERATION_FILE in said and "\n" not in said
    if ":" in text and text[2] != "a":
        assert text.split('"')[-2 if text.count('"') == 2 else 1] in said or "temperature" in said


def test_values_of_an_old_config_json_do_not_end_a_save(tiny, tmp_path):
    old = changed(tiny, tmp_path / "old", "config.json", lambda c: c.update(temperature=0.9, do_sample=True, top_k=7))
    model = load_plain(str(old))
    model.save_pretrained(tmp_path / "new")
    assert not model.config._get_generation_parameters()
    load_plain(str(tmp_path / "new"))


def test_a_model_keeps_its_own_values_and_says_in_one_line_what_has_no_effect(tiny, tmp_path, caplog):
    tell.cache_clear()
    brought = {"repetition_penalty": 1.05, "temperature": 0.9, "eos_token_id": [454, 455]}
    folder = changed(tiny, tmp_path / "m", GENERATION_FILE, lambda c: c.update(brought))
    model = load_plain(str(folder))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("open_r1")]
    assert lines == [
        f"{folder}/{GENERATION_FILE}: temperature=0.9: cannot act without do_sample true or another key beside it, "
        "and is left out of what is saved",
        f"{folder}/{GENERATION_FILE}: repetition_penalty=1.05: has no effect here; what is generated goes by the "
        "flags alone",
    ]
    model.save_pretrained(tmp_path / "saved")
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
    assert saved.generation_config.repetition_penalty == 1.05 and saved.generation_config.temperature is None
    saved.generate(input_ids=torch.tensor([[5, 6]]), max_new_tokens=2)
    before = copy.deepcopy(model.generation_config)
    with flags_alone(model):
        assert own_values(model.generation_config) == {}
    assert model.generation_config == before


@pytest.mark.parametrize("family", NAMES)
def test_a_familys_rollouts_are_those_of_the_flags_alone(family):
    model = tiny_family(family).eval()
    flags = GenerationConfig(max_new_tokens=5, do_sample=True, top_k=0, pad_token_id=PAD, eos_token_id=[EOS])
    prompts = group_prompts(model, [(1, 9, 3)])

    def sampled() -> list[list[int]]:
        torch.manual_seed(3)
        with flags_alone(model):
            if why_no_prefill(model, None) is None:
                return generate_groups(model, model.base_model, prompts, flags, [EOS])
            ids = prompts[0].ids[None]
            return model.generate(input_ids=ids, generation_config=flags, **prompts[0].types).tolist()

    model.generation_config = GenerationConfig(eos_token_id=EOS, pad_token_id=PAD)
    clean = sampled()
    model.generation_config = GenerationConfig.from_dict({**NASTY, "eos_token_id": EOS, "pad_token_id": PAD})
    assert sampled() == clean
    make_savable(model, family)
    assert sampled() == clean and model.generation_config.repetition_penalty == 9.0


@pytest.fixture(scope="module")
def poisoned(tiny, tmp_path_factory):
    """The tiny model with a generation configuration that would change any policy."""
    return str(changed(tiny, tmp_path_factory.mktemp("m") / "poisoned", GENERATION_FILE, lambda c: c.update(NASTY)))


@pytest.mark.parametrize("once", ["true", "false"])
def test_the_trainer_samples_by_its_flags_and_saves_what_the_model_brought(tiny, poisoned, digits, tmp_path, once):
    def ids_of(name: str) -> tuple[list, object]:
        trainer = make_trainer(name, digits / "train.jsonl", tmp_path / "run", "--prefill_once", once)
        trainer.model.eval()
        torch.manual_seed(0)
        output = trainer._generate_and_score_completions(rows(0, 1, group=4))
        return output["completion_ids"].tolist(), trainer

    clean, _ = ids_of(tiny)
    sampled, trainer = ids_of(poisoned)
    assert sampled == clean
    trainer.save_model(str(tmp_path / "saved"))
    saved = json.loads((tmp_path / "saved" / GENERATION_FILE).read_text())
    assert {name: saved[name] for name in NASTY} == NASTY


def test_an_evaluation_answers_by_its_flags(tiny, poisoned, digits):
    from open_r1.config.model_arguments import VLMConfig
    from open_r1.config.task_arguments import TaskArguments
    from open_r1.data.jsonl_dataset import load_records
    from open_r1.evaluation.loader import loader_of

    def answers(name: str) -> list:
        argv = f"--model {name} --task digits --data_file_paths {digits / 'heldout.jsonl'} --image_folders {digits}"
        settings = settings_of(parser_of(None).parse_args([*argv.split(), "--output_dir", "x", "--device", "cpu",
                                                           "--max_completion_length", "8"]))  # fmt: skip
        records = load_records(settings.data_file_paths, settings.image_folders)
        processor = load_processor(VLMConfig(model_name_or_path=name), TaskArguments())
        engine = TransformersEngine(settings, processor, loader_of(records, settings, processor))
        return engine.answer(engine.loader.take([{"split": "think", "row": n} for n in range(3)]), [0])

    assert answers(poisoned) == answers(tiny)
