"""A base model in 4 bits on CUDA without a device: bytes of real packed weights, what its product holds, a step."""

import gc

import pytest
import torch
from helpers.fake_gpu import CUDA
from transformers import AutoConfig, AutoModelForImageTextToText

from open_r1.models.plain import load_plain
from open_r1.models.quantization import FourBit, packed_weights, stored_bytes
from open_r1.rehearse import cli
from open_r1.rehearse.fake_cuda import fake_cuda
from open_r1.rehearse.four_bit import pack_layer, pack_weights
from open_r1.rehearse.quantized_kernels import FUSED_TOKENS

pytestmark = pytest.mark.quant


@pytest.mark.parametrize("nested", [False, True])
def test_packed_weights_have_the_bytes_of_real_ones(tiny, nested):
    four_bit = FourBit(nested=nested)
    real = load_plain(str(tiny), four_bit=four_bit, dtype=torch.bfloat16)
    expected = {name: stored_bytes(parameter) for name, parameter in real.named_parameters()}
    with fake_cuda() as device:
        with torch.device(CUDA):
            model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tiny), dtype=torch.bfloat16)
        pack_weights(model, four_bit, torch.bfloat16)
        assert {name: stored_bytes(parameter) for name, parameter in model.named_parameters()} == expected
        assert packed_weights(model) == packed_weights(real)
        gc.collect()
        codes = 512 * 4 * len(expected)  # tables of the numbers that 4 and 8 bits stand for, and whole blocks
        assert sum(expected.values()) <= device.ledger.alive <= sum(expected.values()) + codes


def test_the_product_of_many_tokens_makes_a_weight_whole_and_its_gradient_too():
    from bitsandbytes.nn import Linear4bit

    whole = 2 * 1024 * 1024  # bytes of the weight in bfloat16
    with fake_cuda() as device:
        with torch.device("meta"):
            layer = Linear4bit(1024, 1024, bias=True, compute_dtype=torch.bfloat16)
        pack_layer(layer, FourBit(nested=True), torch.bfloat16)
        before = device.ledger.alive
        assert 1024 * 1024 / 2 < before < 1024 * 1024 * 0.53
        for tokens in (FUSED_TOKENS, FUSED_TOKENS + 1):
            states = torch.randn(tokens, 1024, dtype=torch.bfloat16, device=CUDA, requires_grad=True)
            with device.phase(f"forward {tokens}"):
                out = layer(states)
            with device.phase(f"backward {tokens}"):
                out.sum().backward()
            del out
        peaks, work = device.ledger.peaks, device.work
        assert peaks[f"forward {FUSED_TOKENS}"] < before + whole < peaks[f"forward {FUSED_TOKENS + 1}"]
        assert peaks[f"backward {FUSED_TOKENS}"] > before + whole
        assert work.operations(f"forward {FUSED_TOKENS}") == 2 * FUSED_TOKENS * 1024 * 1024
        assert work.operations(f"forward {FUSED_TOKENS + 1}") == 2 * (FUSED_TOKENS + 1) * 1024 * 1024


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_8bit"])
def test_a_step_is_rehearsed(tiny, digits, optim, capsys):
    flags = f"--model_name_or_path {tiny} --data_file_paths {digits}/train.jsonl --image_folders {digits}"
    flags += " --num_generations 2 --per_device_train_batch_size 4 --gradient_accumulation_steps 2 --beta 0.04"
    flags += " --max_completion_length 16 --use_peft true --lora_r 4 --load_in_4bit true --use_bnb_nested_quant true"
    assert cli.main([*flags.split(), "--optim", optim]) == 0, capsys.readouterr().err
    assert "policy: forward, backward" in capsys.readouterr().out
