"""Arguments are plain values until `hardware.prepare` fits them to the machine and starts its process group."""

import os

import pytest
from accelerate.state import PartialState

from open_r1.config.hardware import prepare
from open_r1.config.training_arguments import GRPOArguments, SFTArguments


@pytest.mark.parametrize("arguments", [GRPOArguments, SFTArguments])
def test_building_arguments_changes_nothing(arguments, tmp_path):
    PartialState._reset_state()
    environment = dict(os.environ)
    training = arguments(output_dir=str(tmp_path), deepspeed="local_scripts/zero3.json", fsdp="true")
    assert dict(os.environ) == environment and PartialState._shared_state == {}
    assert (training.bf16, training.deepspeed, training.fsdp) == (None, "local_scripts/zero3.json", "true")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [GRPOArguments, SFTArguments])
def test_preparing_derives_what_transformers_and_trl_derive(arguments, tmp_path):
    training = arguments(output_dir=str(tmp_path), hang_timeout=4000.0)
    prepare(training)
    assert training.bf16 is False and training.ddp_timeout == 4300 and training.dataloader_pin_memory is False
    assert training.device.type == "cpu" and training.world_size == 1
    assert getattr(training, "generation_batch_size", 8) == 8  # GRPO's: TRL derives it


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"hang_timeout": float("nan")}, "--hang_timeout: got nan, expected seconds"),
        ({"deepspeed": "local_scripts/zero3.json"}, "--deepspeed: got a script started by python"),
        ({"fsdp": "true"}, "--fsdp: got true on the CPU"),
        ({"bf16": True}, "--bf16: got true, and no GPU is seen here, expected one; leave it out to train on the CPU"),
        ({"fp16": True, "use_cpu": True}, "--fp16: got true, and no GPU is seen here"),
        ({"tf32": True}, "--tf32: got true, and no GPU is seen here"),
        ({"num_generations": 1}, "at least 2 generations"),
    ],
)
def test_what_cannot_act_is_refused(flags, error, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ValueError, match=error):
        prepare(GRPOArguments(output_dir=str(tmp_path), **flags))
