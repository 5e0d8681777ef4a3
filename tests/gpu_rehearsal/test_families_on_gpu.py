"""Every family on CUDA without a device: packed groups, padded rows, the prompts' cache, attention pages."""

import pytest
import torch
from helpers import families
from helpers.fake_gpu import CUDA, forward_and_backward, on_gpu
from helpers.families.rows import NO_PREFILL, PACKED, TRAINED

from open_r1.evaluation.attention.maps import attention_rows, with_completion
from open_r1.rehearse.fake_cuda import fake_cuda
from open_r1.rollout.generation import prefill
from open_r1.rollout.prompt_cache import select_rows

TWO = [(1, 9, 2), (2, 12, 1)]  # as `families.GROUPS`


@pytest.mark.slow
@pytest.mark.parametrize("family", TRAINED)
def test_passes_run_and_wait_in_no_layer(family):
    model = families.ready(family)
    prompts = families.group_prompts(model, TWO)
    with fake_cuda() as device:
        model = model.to(CUDA)
        for name, shared, autocast in (("packed", True, True), ("rows", False, False)):
            if shared and family not in PACKED:
                continue
            if not autocast:
                model = model.to(torch.bfloat16)
            with device.phase(name):
                forward_and_backward(model, prompts, shared, autocast)
            model.zero_grad()
        if family not in NO_PREFILL:
            with torch.no_grad():
                cache = prefill(model.base_model, on_gpu(prompts)[1:])
            select_rows(cache, torch.tensor([0, 0, 1], device=CUDA))
        layers = {str(event): count for event, count in device.synchronisations.in_layers().items()}
        ours = {event: count for event, count in layers.items() if event.split(": ")[1].startswith("trainer/")}
        assert ours == {}
        assert device.guesses == {}


@pytest.mark.slow
@pytest.mark.parametrize("family", families.NAMES)
def test_attention_rows_run(family):
    model = families.ready(family)
    fields = families.prompt(model, 2, 9, seed=0)
    with fake_cuda():
        on_device = {name: value.to(CUDA) for name, value in fields.items()}
        whole = with_completion(on_device, [70, 71, 72])
        rows = attention_rows(model.to(CUDA), whole, fields["input_ids"].shape[1], layer=1)
    assert rows.device.type == "cpu" and len(rows) == 3
