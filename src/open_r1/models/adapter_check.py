"""Refuses an adapter that is not whole, or does not fit its base model, before either is loaded.

peft (0.20) makes missing weights up and says nothing of unexpected ones; a pattern in `adapter_config.json` is matched
against every layer's name, which need not end. So the adapter is first put around the base model without weights, in a
child process with a deadline.
"""

import warnings

import torch
from peft import PeftConfig, get_peft_model

from open_r1.errors import UsageError
from open_r1.models.configuration import empty_model, one_line, read_config, without_zero3, wrong_numbers
from open_r1.models.deadline import refuse_endless
from open_r1.models.weights import ADAPTER_FILES, RESTORE, files_of_weights, refuse_names, refuse_nonfinite

PATTERN_SECONDS = 10.0  # for a child that matches patterns and reads one adapter


def refuse_wrong_adapter(name: str, base: str, revision: str | None = None, trust_remote_code: bool = False) -> None:
    """Raises UsageError where the adapter's settings or weights do not fit `base`, or a pattern does not end."""
    if not (files := files_of_weights(name, ADAPTER_FILES)):
        raise UsageError(
            f"{name}: got an adapter without weights, expected one of {', '.join(ADAPTER_FILES)}; {RESTORE}"
        )
    empty = empty_model(read_config(base, revision, trust_remote_code), base, trust_remote_code)
    refuse_endless(
        lambda: _misfit(name, base, empty),
        PATTERN_SECONDS,
        f"{name}/adapter_config.json: to find its layers in {base} by target_modules and the other patterns took more "
        f"than {PATTERN_SECONDS:g} s of computing; name the layers in full there",
    )
    refuse_nonfinite(name, files)


def _misfit(name: str, base: str, empty: torch.nn.Module) -> str | None:
    """What is wrong with an adapter around a base model without weights; None where it fits."""
    torch.set_num_threads(1)  # this is a fork
    warnings.simplefilter("ignore")
    try:
        with without_zero3():
            config = PeftConfig.from_pretrained(name)
            if wrong := next(wrong_numbers(config.to_dict()), None):
                return f"{name}/adapter_config.json: {wrong[0]}: got {wrong[1]}, expected a finite number; correct it"
            model = get_peft_model(empty, config, low_cpu_mem_usage=True)
            found = model.load_adapter(name, model.active_adapter, low_cpu_mem_usage=True)  # says what was missing
        refuse_names(name, found.missing_keys, (), found.unexpected_keys)
    except UsageError as error:
        return str(error)
    except Exception as error:
        return (
            f"{name}: the adapter does not fit {base}: {one_line(error)}; give it the base model that it was trained "
            "on (base_model_name_or_path in adapter_config.json), or restore its files"
        )
    return None
