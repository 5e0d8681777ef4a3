"""Adapters that vLLM's LoRA cannot hold are refused by their flags, where they alone are sent."""

import pytest

from open_r1.config import vllm_flags
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.vllm_flags import check_adapter_sync


def check(sync: str = "adapter", bf16: bool | None = None, **flags: object) -> None:
    model = VLMConfig(model_name_or_path="m", use_peft=True, **flags)
    check_adapter_sync(GRPOArguments(output_dir="o", vllm_lora_sync=sync, bf16=bf16), model)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"lora_vision": True}, "--lora_vision: got adapter and what vLLM's adapters have not; leave one out"),
        ({"use_dora": True}, "--use_dora: got adapter and what vLLM's adapters have not"),
        ({"lora_modules_to_save": ["embed_tokens"]}, "--lora_modules_to_save: got adapter and what"),
        ({"lora_r": 1024}, "--lora_r: got adapter and 1024, expected at most 512"),
    ],
)
def test_what_vllm_does_not_adapt_is_refused_but_for_merged_weights(flags, said):
    with pytest.raises(ValueError, match=f"--vllm_lora_sync, {said}"):
        check(**flags)
    check("merged", **flags)
    check(lora_r=64)


def test_float32_has_no_kernel_on_cuda(monkeypatch):
    monkeypatch.setattr(vllm_flags, "is_cuda_available", lambda: True)
    with pytest.raises(ValueError, match="--bf16: got adapter and float32, for which vLLM has no kernel on CUDA"):
        check(bf16=False)
    check()
