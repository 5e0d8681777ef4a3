"""Files that others made run no code here: pickles in place of weights and states, models with code of their own."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from open_r1.arguments import JsonlArguments
from open_r1.flags import parse


class Evil:
    """A pickle that writes a file where it is loaded."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"echo {os.getpid()} >> {self.trace}",)


@pytest.fixture
def trace(tmp_path) -> Path:
    """Written by what must not run; it does work where a pickle is loaded as one."""
    path = tmp_path / "trace"
    pickle.loads(pickle.dumps(Evil(path)))
    assert path.is_file()
    path.unlink()
    return path


def poison(path: Path, trace: Path) -> None:
    """An evil pickle in torch's own format, and in its old one."""
    torch.save({"module": Evil(trace), "weight": torch.zeros(1)}, path)


def config(tiny: str):
    data = ["--data_file_paths", "a.jsonl", "--bf16", "false"]
    return parse(JsonlArguments, ["--model_name_or_path", tiny, *data])
