"""Refuses an adapter that is not whole, or does not fit its base model, before either is loaded.

peft (0.20) makes missing weights up and says nothing of unexpected ones; a pattern in `adapter_config.json` is matched
against every layer's name, which need not end. So the adapter is first put around the base model without weights, in a
child process with a deadline.
"""

import warnings

import torch
from peft import PeftModel

from open_r1.errors import UsageError
from open_r1.models.configuration import empty_model, one_line, read_config, without_zero3
from open_r1.models.deadline import refuse_endless
from open_r1.models.weights import ADAPTER_FILES, files_of_weights, refuse_names, refuse_nonfinite

PATTERN_SECONDS = 10.0  # for a child that matches patterns and reads one adapter


def refuse_wrong_adapter(name: str, base: str, revision: str | None = None, trust_remote_code: bool = False) -> None:
    """Raises UsageError where the adapter's settings or weights do not fit `base`, or a pattern does not end."""
    empty = empty_model(read_config(base, revision, trust_remote_code), base, trust_remote_code)
    refuse_endless(
        lambda: _misfit(name, base, empty),
        PATTERN_SECONDS,
        f"{name}/adapter_config.json: to find its layers in {base} by target_modules and the other patterns took more "
        f"than {PATTERN_SECONDS:g} s; name the layers in full there",
    )
    refuse_nonfinite(name, files_of_weights(name, ADAPTER_FILES))


def _misfit(name: str, base: str, empty: torch.nn.Module) -> str | None:
    """What is wrong with an adapter around a base model without weights; None where it fits."""
    torch.set_num_threads(1)  # this is a fork
    warnings.simplefilter("ignore")
    try:
        with without_zero3():
            model = PeftModel.from_pretrained(empty, name, low_cpu_mem_usage=True)
            found = model.load_adapter(name, "checked", low_cpu_mem_usage=True)  # says what was missing
        missing = [key.replace(".checked.", ".") for key in found.missing_keys]
        refuse_names(name, missing, (), found.unexpected_keys)
    except UsageError as error:
        return str(error)
    except Exception as error:
        return (
            f"{name}: the adapter does not fit {base}: {one_line(error)}; give it the base model that it was trained "
            "on (base_model_name_or_path in adapter_config.json), or restore its files"
        )
    return None
