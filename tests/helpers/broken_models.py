"""Copies of the tiny model, and of an adapter, with one thing wrong in their files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

Tensors = dict[str, torch.Tensor]


def changed(source: Path | str, folder: Path, file: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a model's folder in which `change` has changed the JSON object of a file in place."""
    shutil.copytree(source, folder)
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return folder


def reweighted(source: Path | str, folder: Path, change: Callable[[Tensors], Tensors | None]) -> Path:
    """A copy with other weights: those that `change` returns, or has changed in place."""
    shutil.copytree(source, folder)
    path = next(folder.glob("*model.safetensors"))
    weights = load_file(path)
    save_file(change(weights) or weights, path, metadata={"format": "pt"})
    return folder


def retemplated(source: Path | str, folder: Path, text: str) -> Path:
    """A copy whose chat template goes on with `text`."""
    shutil.copytree(source, folder)
    with open(folder / "chat_template.jinja", "a", encoding="utf-8") as file:
        file.write(text)
    return folder


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    """Weights without those whose names hold one of the parts."""
    return lambda weights: {name: w for name, w in weights.items() if not any(part in name for part in parts)}


def filled(part: str, value: float) -> Callable[[Tensors], None]:
    """Weights of which one number is `value`, in the first tensor whose name holds the part."""

    def change(weights: Tensors) -> None:
        name = next(name for name in sorted(weights) if part in name)
        weights[name] = weights[name].clone()
        weights[name].view(-1)[-1] = value

    return change


def truncated(source: Path | str, folder: Path) -> Path:
    """A copy whose file of weights is half as long."""
    shutil.copytree(source, folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


def sharded(source: Path | str, folder: Path, missing: bool) -> Path:
    """A copy with its weights in two files, the second of which may be missing."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    place = {name: files[number % 2] for number, name in enumerate(sorted(weights))}
    for file in files[: 1 if missing else 2]:
        part = {name: weights[name] for name in weights if place[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return folder


def small_adapter(tiny: str, folder: Path, **options: Any) -> Path:
    """A LoRA adapter of the tiny model's q_proj and v_proj, with other settings in `options`."""
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)
    settings = {"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **options}
    get_peft_model(model, LoraConfig(**settings)).save_pretrained(folder)
    return folder
