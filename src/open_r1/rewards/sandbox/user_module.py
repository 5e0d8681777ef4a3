"""Imports a user's file of rewards or tools as a module, once in each process. (torch-free)"""

import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType


def import_file(path: str) -> ModuleType:
    """The module of a Python file. Raises FileNotFoundError, and every error of the file itself."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"reward file: got {path}, expected a Python file; correct the path")
    return _imported(Path(path).resolve())


@lru_cache
def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"user_reward_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle need it there
    spec.loader.exec_module(module)
    return module
