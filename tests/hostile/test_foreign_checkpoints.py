"""Files that others made run no code here: pickles in place of weights and states, models with code of their own."""

import json
import pickle
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.repository import REPO, run_script
from helpers.trainers import make_trainer
from peft.utils.save_and_load import load_peft_weights
from safetensors.torch import load_file

from open_r1.check import main as check
from open_r1.config import hardware
from open_r1.config.parser import parse
from open_r1.config.remote_code import load_weights_only
from open_r1.config.task_arguments import JsonlArguments, TaskArguments
from open_r1.errors import UsageError
from open_r1.models.loading import load_model, load_processor
from open_r1.plan.dims import read_dims

UNSAFE = (pickle.UnpicklingError, OSError, ValueError)  # transformers wraps torch's in an OSError of its own


class Evil:
    """A pickle that writes a file where it is loaded."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.write_text, (self.trace, "ran")


@pytest.fixture
def trace(tmp_path) -> Path:
    """What evil code writes; here it is seen to do so where a pickle is loaded without care."""
    path = tmp_path / "trace"
    torch.save({"a": Evil(path)}, tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert path.read_text() == "ran"
    path.unlink()
    return path


def poison(path: Path, trace: Path) -> None:
    torch.save({"module": Evil(trace), "weight": torch.zeros(1)}, path)


def arguments(model: Path):
    _, training, model_args = parse(
        JsonlArguments, ["--model_name_or_path", str(model), "--data_file_paths", "a.jsonl", "--bf16", "false"]
    )
    return model_args, training


@pytest.fixture
def old_fashioned(tiny, tmp_path) -> Path:
    """The tiny VLM with its weights as pytorch_model.bin, as old models of the hub have them."""
    folder = tmp_path / "old"
    shutil.copytree(tiny, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_weights_in_bin_files_are_read_as_weights(old_fashioned, tiny, trace):
    first, second = (load_model(*arguments(folder)).state_dict() for folder in (old_fashioned, tiny))
    assert all(torch.equal(first[name], second[name]) for name in second)
    poison(old_fashioned / "pytorch_model.bin", trace)
    with pytest.raises(UNSAFE):
        load_model(*arguments(old_fashioned))
    assert not trace.exists()


def test_an_adapter_in_a_bin_file_runs_nothing(tmp_path, trace):
    poison(tmp_path / "adapter_model.bin", trace)
    with pytest.raises(pickle.UnpicklingError):
        load_peft_weights(str(tmp_path), device="cpu")
    assert not trace.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "run_state_0.pt"])
def test_a_state_that_somebody_else_put_into_a_checkpoint_runs_nothing(tiny, digits, tmp_path, trace, name):
    flags = ("--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1")
    make_trainer(tiny, digits / "train.jsonl", tmp_path / "run", *flags).train()
    folder = tmp_path / "run" / "checkpoint-1"
    assert (folder / name).is_file()
    poison(folder / name, trace)
    with pytest.raises(pickle.UnpicklingError):
        make_trainer(tiny, digits / "train.jsonl", tmp_path / "run", *flags).train(resume_from_checkpoint=str(folder))
    assert not trace.exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero_pp_rank_0_mp_rank_00", "mp_rank_00"])
def test_files_of_deepspeed_run_nothing(tiny, tmp_path, trace, stage):
    """The loaders of DeepSpeed: what it makes of a checkpoint, and the one that its engine resumes by."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    folder = tmp_path / "checkpoint-1"
    (folder / "global_step1").mkdir(parents=True)
    shutil.copy(Path(tiny, "config.json"), folder)
    (folder / "latest").write_text("global_step1")
    states = [folder / "global_step1" / f"{stage}_{kind}_states.pt" for kind in ("model", "optim")]
    for path in states:
        poison(path, trace)
    with pytest.raises(pickle.UnpicklingError):
        runpy.run_path(str(REPO / "local_scripts" / "consolidate_zero.py"))["consolidate"](folder, tmp_path / "out")
    load_weights_only()  # as `--deepspeed` does
    with pytest.raises(pickle.UnpicklingError):
        TorchCheckpointEngine().load(str(states[0]), map_location="cpu")
    assert not trace.exists()


@pytest.mark.slow
def test_a_run_with_deepspeed_refuses_code(trace, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(hardware, "PartialState", lambda **_: None)
    hardware._prepare_deepspeed(
        SimpleNamespace(use_cpu=True, deepspeed="local_scripts/zero2.json", accelerator_config=None)
    )
    with pytest.raises(pickle.UnpicklingError):
        torch.load(trace.with_name("evil.pt"), weights_only=False)
    assert not trace.exists()


# --------------------------------------------------------------------------------------------- models that bring code


@pytest.fixture
def with_code(tiny, tmp_path, trace) -> Path:
    """The tiny VLM as a model of an architecture that only its own files know."""
    folder = tmp_path / "brings_code"
    shutil.copytree(tiny, folder)
    classes = {"AutoConfig": "own.C", "AutoModelForImageTextToText": "own.M", "AutoProcessor": "own.P"}
    classes |= {"AutoImageProcessor": "own.I", "AutoTokenizer": ["own.T", None]}
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text()) | {"auto_map": classes}
        settings |= {"model_type": "own"} if name == "config.json" else {"processor_class": "P"}
        (folder / name).write_text(json.dumps(settings))
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(trace)!r}).write_text('ran')\n")
    return folder


WHY = "got a model that brings Python code of its own, expected one that transformers knows"


def test_code_that_comes_with_a_model_does_not_run(with_code, trace, digits, capsys):
    model_args, training = arguments(with_code)
    with pytest.raises(UsageError, match=WHY):
        load_processor(model_args, TaskArguments())
    with pytest.raises(UsageError, match=WHY):
        load_model(model_args, training)
    with pytest.raises(UsageError, match="the planner runs none"):
        read_dims(str(with_code))
    with pytest.raises(SystemExit):
        check(f"--data_file_paths {digits}/heldout.jsonl --image_folders {digits} --model {with_code}".split())
    assert "the doctor runs none" in capsys.readouterr().err
    assert not trace.exists()


def test_the_flag_runs_it(with_code, trace):
    with pytest.raises(UsageError, match=r"AttributeError: .* no attribute 'C'"):  # own.py has no class C
        load_processor(arguments(with_code)[0], TaskArguments(), trust_remote_code=True)
    assert trace.exists()


SCRIPTS = {
    "src/open_r1/grpo_jsonl.py": "--model_name_or_path {model} {data} --output_dir {out} --bf16 false",
    "eval/digits.py": "--model {model} {data} --output_dir {out}",
    "eval/infer.py": "--model {model} --image {image} --question What?",
    "eval/attention.py": "--model {model} --image {image} --question What?",
    "eval/demo.py": "--model {model} --task digits --port 0",
    "local_scripts/consolidate_zero.py": "{model} {out}",
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_so(script, with_code, trace, digits, tmp_path):
    (with_code / "latest").write_text("global_step1")
    data = f"--data_file_paths {digits}/heldout.jsonl --image_folders {digits}"
    image = next((digits / "images").glob("*.png"))
    flags = SCRIPTS[script].format(model=with_code, data=data, image=image, out=tmp_path / "out")
    done = run_script(script, *flags.split(), check=False)
    assert done.returncode != 0 and not trace.exists()
    assert (WHY if "consolidate" not in script else "custom code") in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
