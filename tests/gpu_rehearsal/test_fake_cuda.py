"""CUDA without a device: what runs, what a kernel refuses, what is counted, and that nothing stays behind."""

import gc
from collections import Counter

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.attention import varlen
from torch.utils._device import _device_constructors
from transformers import AutoConfig, AutoModelForImageTextToText

from open_r1.errors import UsageError
from open_r1.rehearse import fake_cuda as module
from open_r1.rehearse.fake_cuda import fake_cuda, hooks, why_no_backward
from open_r1.rehearse.kernel_rules import RefusedByKernel
from open_r1.rehearse.values import UnknownNumbers


@pytest.fixture
def device():
    with fake_cuda() as device:
        yield device


def waits(device) -> dict[str, int]:
    total = Counter()
    for event, count in device.synchronisations.waits.items():
        total[event.what] += count
    return dict(total)


def test_a_layer_learns_under_autocast_and_bytes_are_counted(device):
    layer = torch.nn.Linear(256, 256, bias=False, device="cuda")
    assert device.ledger.alive == 4 * 256 * 256
    x = torch.randn(64, 256, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        y = layer(x)
    assert (y.dtype, y.device.type) == (torch.bfloat16, "cuda")
    y.float().sum().backward()
    assert layer.weight.grad.dtype is torch.float32 and layer.weight.grad.shape == (256, 256)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    optimizer.step()
    del x, y
    gc.collect()
    assert 4 * 256 * 256 * 4 <= device.ledger.alive < 4 * 256 * 256 * 4 + 8192  # weight, gradient, two moments
    assert device.work.operations("start") == 2 * 2 * 64 * 256 * 256  # forward, gradient of the weight


def test_integers_and_small_numbers_are_real_on_the_device(device):
    lengths = torch.tensor([2, 3], device="cuda")
    mask = torch.arange(4, device="cuda") < lengths[:, None]
    assert mask.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    values = torch.ones(2, 4, device="cuda") * 0.5
    assert values[mask].sum().item() == 2.5
    assert torch.tensor([lengths[1], 7]).tolist() == [3, 7]
    assert waits(device) == {
        "copy to the device": 1,
        "nonzero": 1,
        "index by a mask": 1,
        "tolist": 1,
        "reading a number": 2,
    }


def test_what_a_kernel_writes_is_unknown_also_by_an_earlier_view(device):
    table = torch.zeros(8, device="cuda")
    part = table[:4]
    table.add_(torch.randn(8, device="cuda"))
    with pytest.raises(UnknownNumbers, match="nonzero"):
        (part != 0).nonzero()
    assert not torch.isnan(table).any() and torch.isfinite(table).all()
    assert device.guesses == {}
    values = torch.ones(2, device="cuda")
    assert torch.allclose(table, table + 1) and not torch.allclose(values, 0 * values)
    assert device.guesses.total() == 1


def test_copies_are_told_apart(device):
    rows = torch.randn(8)
    rows.to("cuda", non_blocking=True)
    assert (waits(device), device.synchronisations.unpinned.total()) == ({}, 1)
    rows.pin_memory().to("cuda", non_blocking=True)
    assert (waits(device), device.synchronisations.unpinned.total()) == ({}, 1)
    rows.to("cuda")
    assert waits(device) == {"copy to the device": 1}
    assert "test_fake_cuda.py" in str(next(iter(device.synchronisations.waits)))


def test_attention_kernels_take_what_they_take_on_a_gpu(device):
    def states(dtype):
        return torch.randn(1, 2, 8, 16, device="cuda", dtype=dtype, requires_grad=True)

    attend = torch.nn.functional.scaled_dot_product_attention
    half, whole = states(torch.bfloat16), states(torch.float32)
    attend(half, half, half, is_causal=True).sum().backward()
    attend(whole, whole, whole, attn_mask=torch.ones(8, 8, dtype=torch.bool, device="cuda")).sum().backward()
    ends = torch.tensor([0, 8], dtype=torch.int32, device="cuda")
    query, key = (state[0].transpose(0, 1) for state in (half, whole))
    varlen.varlen_attn(query, query, query, ends, ends, 8, 8, window_size=(-1, 0)).sum().backward()
    with pytest.raises(RefusedByKernel, match="bfloat16, bfloat16, float32 for query, key, value"):
        varlen.varlen_attn(query, query, key, ends, ends, 8, 8)
    with pytest.raises(RefusedByKernel, match="int64"):
        varlen.varlen_attn(query, query, query, ends.long(), ends.long(), 8, 8)
    with pytest.raises(RefusedByKernel, match="bfloat16, float32 to multiply"):
        torch.mm(query[:, 0], key[:, 0].T)


def test_two_devices_do_not_meet(device):
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(4, device="cuda") + torch.ones(4)


def test_nothing_stays_behind():
    def stood_in():
        own = (torch.nn.functional.scaled_dot_product_attention, torch.tensor, torch.nn.Module._apply)
        return [*own, torch.cuda.synchronize, FakeTensor.tolist, "numpy" in vars(FakeTensor)]

    before = stood_in()
    with pytest.raises(RefusedByKernel), fake_cuda():
        a = torch.ones(2, 2, device="cuda")
        torch.mm(a, a.bfloat16())
    assert stood_in() == before and not torch.cuda.is_available()
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(1, device="cuda")
    weight = torch.ones(2, requires_grad=True)
    (weight * 2).sum().backward()
    assert weight.grad.tolist() == [2, 2]


def test_a_device_in_context_is_one_for_all_functions_afterwards():
    _device_constructors.cache_clear()  # as in a process that has made no tensor in such a context
    with fake_cuda(), torch.device("cuda"):
        torch.ones(1)
    with torch.device("meta"):
        assert torch.tensor([1]).is_meta


def test_a_model_is_made_without_memory_and_a_shared_weight_stays_one(device, tiny):
    config = AutoConfig.from_pretrained(tiny)
    with torch.device("cuda"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    alive = device.ledger.alive
    model.to(torch.bfloat16)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    gc.collect()
    assert 0.5 * alive <= device.ledger.alive < 0.51 * alive + 512 * len(list(model.parameters()))


def test_without_a_compiler_one_sentence_says_what_is_missing(monkeypatch):
    assert why_no_backward() is None
    monkeypatch.setenv("CXX", "no-such-compiler")
    hooks.cache_clear()
    with pytest.raises(UsageError, match=r"got no C\+\+ compiler \(no-such-compiler\), expected both"), fake_cuda():
        pass
    monkeypatch.setattr(module.cpp_extension, "is_ninja_available", lambda: False)
    assert "no-such-compiler) and no ninja" in why_no_backward()
    hooks.cache_clear()
