"""Lets a trainer's libraries place models and batches on the fake device, as they would on a GPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from transformers import TrainingArguments
from trl.trainer.base_trainer import _BaseTrainer

from open_r1.rehearse.fake_cuda import fake_cuda
from open_r1.rehearse.fake_device import FakeDevice
from open_r1.rehearse.ways_round import replaced
from open_r1.trainer.forward import shared_prefix

DEVICE = torch.device("cuda:0")


@contextmanager
def on_fake_device(training: TrainingArguments, kernels: str = "cuda") -> Iterator[FakeDevice]:
    """Inside this context trainers of these arguments, which were parsed for the CPU, run on the fake device.

    Whether layers mix completions is found out by numbers, which fake tensors have not: a rehearsal takes the
    model's word that they do not; a run tries it.
    """
    arguments = vars(training)
    before = {name: arguments.get(name) for name in ("_setup_devices", "use_cpu", "_n_gpu")}
    shared = PartialState._shared_state
    placed = shared["device"]
    arguments.update(_setup_devices=DEVICE, use_cpu=False, _n_gpu=1)
    shared["device"] = DEVICE
    try:
        with ExitStack() as stack:
            stack.enter_context(replaced(_BaseTrainer, "_send_telemetry", lambda trainer: None))
            stack.enter_context(replaced(shared_prefix, "why_no_shared_prefix", shared_prefix.dropout_of))
            yield stack.enter_context(fake_cuda(kernels))
    finally:
        AcceleratorState._reset_state()
        shared["device"] = placed
        arguments.update(before)
