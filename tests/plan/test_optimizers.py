"""The planner's optimizers against the states of the real ones, and its cards."""

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from open_r1.errors import UsageError
from open_r1.plan.gpus import KNOWN_GPUS, gpu_of
from open_r1.plan.optimizers import OPTIMIZERS, state_bytes_of

UNKNOWN = {"adamw_torch_xla", "adamw_torch_npu_fused", "adamw_anyprecision", "adamw_torch_4bit", "adamw_torch_8bit"}
UNKNOWN |= {"lomo", "adalomo", "grokadamw", "stable_adamw"}  # of packages, or whose states depend on more than size
UNKNOWN |= {name.value for name in OptimizerNames if name.value.startswith(("galore", "apollo", "schedule_free"))}
OF_BITSANDBYTES = [name for name, (_, kind) in OPTIMIZERS.items() if kind != "own"]
OF_TORCH = [name for name in OPTIMIZERS if name not in OF_BITSANDBYTES]


def counted_bytes(optim: str, dtype: torch.dtype) -> float:
    """Bytes of the real optimizer's states for each number of a large weight, after a step."""
    weight = torch.nn.Parameter(torch.randn(256, 256, dtype=dtype))
    kind, options = Trainer.get_optimizer_cls_and_kwargs(TrainingArguments(optim=optim, use_cpu=True))
    optimizer = kind([weight], **options)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    states = [value for value in optimizer.state[weight].values() if torch.is_tensor(value) and value.numel() > 1]
    known = [value for value in states if value.numel() != 256 or "8bit" not in optim]  # the map of 8-bit numbers
    return sum(value.numel() * value.element_size() for value in known) / weight.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optim", [*OF_TORCH, *(pytest.param(o, marks=pytest.mark.quant) for o in OF_BITSANDBYTES)])
def test_states_are_those_of_the_real_optimizer(optim, dtype):
    counted = counted_bytes(optim, dtype)
    assert counted == pytest.approx(state_bytes_of(optim, dtype.itemsize), abs=0.05)


def test_every_optimizer_is_known_or_said_to_be_unknown():
    assert {name.value for name in OptimizerNames} == set(OPTIMIZERS) | UNKNOWN and not UNKNOWN & set(OPTIMIZERS)
    with pytest.raises(UsageError, match="--optim: got galore_adamw, whose memory is not known; the planner knows"):
        state_bytes_of("galore_adamw", 4)


def test_a_card_is_found_in_any_case_and_near_names_help():
    assert gpu_of("A100-80").memory == 80 and all(gpu.teraflops > 50 for gpu in KNOWN_GPUS.values())
    with pytest.raises(UsageError, match=r"--gpu: got a100, expected one of a100-40, a100-80;"):
        gpu_of("a100")
