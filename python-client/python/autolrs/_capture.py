"""Copying a trainer's state into plain nested values and back, for PyTorch.

Copies are keyed by names and numbers. Restoring copies into the tensors that are there: their storage addresses
stay. What did not exist when the copy was made (lazily created optimizer state, buffers, gradients) is removed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autolrs._exceptions import CheckpointMismatch, Unsupported

Content = dict[str, Any]
# Keeps the values of a live tensor somewhere; given what was kept of it before, or None.
Keep = Callable[[Tensor, Any], Any]
# Keeps every tensor of a trainer's state, given the content from before.
Capture = Callable[[Keep, Content], Content]

# -- copying nested values ---------------------------------------------------------------------------------------


def save(live: Any, old: Any, keep: Keep) -> Any:
    """A copy of `live`, whose tensors are kept with `keep`."""
    if isinstance(live, Tensor):
        return keep(live, old)
    if isinstance(live, Mapping):
        before = old if isinstance(old, Mapping) else {}
        return {key: save(value, before.get(key), keep) for key, value in live.items()}
    if isinstance(live, (list, tuple)):
        known = old if isinstance(old, list) and len(old) == len(live) else [None] * len(live)
        copied = [save(value, before, keep) for value, before in zip(live, known)]
        return copied if isinstance(live, list) else tuple(copied)
    return copy.deepcopy(live)


def _where_it_is(saved: Tensor) -> torch.device:
    device: torch.device = saved.device
    return device


def restore(live: Any, saved: Any, device_of: Callable[[Tensor], torch.device] = _where_it_is) -> Any:
    """`saved`, in the tensors and containers of `live` where they fit. A new tensor goes where the one is that it
    replaces, else to `device_of(saved)`."""
    if isinstance(saved, Tensor):
        if isinstance(live, Tensor):
            if fits(live, saved, live.device):
                return live.copy_(saved)
            return saved.to(device=live.device, copy=True)
        return saved.to(device=device_of(saved), copy=True)
    if isinstance(saved, Mapping):
        target: Any = live if isinstance(live, dict) else {}
        for key in [key for key in target if key not in saved]:
            del target[key]
        for key, value in saved.items():
            target[key] = restore(target.get(key), value, device_of)
        return target
    if isinstance(saved, (list, tuple)):
        known = live if isinstance(live, (list, tuple)) and len(live) == len(saved) else [None] * len(saved)
        values = [restore(before, value, device_of) for before, value in zip(known, saved)]
        return values if isinstance(saved, list) else tuple(values)
    return copy.deepcopy(saved)


def fits(into: Any, value: Tensor, device: torch.device) -> bool:
    return (
        isinstance(into, Tensor) and into.shape == value.shape and into.dtype == value.dtype and into.device == device
    )


def bytes_in(value: Any) -> int:
    if isinstance(value, Tensor):
        return int(value.numel() * value.element_size())
    if isinstance(value, Mapping):
        return sum(bytes_in(each) for each in value.values())
    if isinstance(value, (list, tuple)):
        return sum(bytes_in(each) for each in value)
    return 0


# -- modules -----------------------------------------------------------------------------------------------------


def _module_tensors(module: nn.Module) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(full name, dict that owns it, key) of every parameter and buffer, shared ones once."""
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        for table in (owner._parameters, owner._buffers):
            for key, value in table.items():
                if value is not None and id(value) in seen:
                    continue
                seen.add(id(value))
                yield f"{prefix}.{key}", table, key


def live_tensors(module: nn.Module) -> list[Any]:
    return [table[key] for _, table, key in _module_tensors(module)]


def _extra_state(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, owner in module.named_modules():
        if type(owner).get_extra_state is not nn.Module.get_extra_state:
            yield name, owner


def save_module(module: nn.Module, old: Content, keep: Keep) -> Content:
    before = old.get("tensors", {})
    tensors: Content = {}
    without_gradient: list[str] = []
    for name, table, key in _module_tensors(module):
        value = table[key]
        if nn.parameter.is_lazy(value):
            raise Unsupported(
                f"Parameter {name.strip('.')} has no shape yet: run one batch through the model before "
                "the Schedule is made."
            )
        tensors[name] = save(value, before.get(name), keep)
        if isinstance(value, nn.Parameter) and value.grad is None:
            without_gradient.append(name)
    extra = {name: copy.deepcopy(owner.get_extra_state()) for name, owner in _extra_state(module)}
    return {"tensors": tensors, "without_gradient": without_gradient, "extra": extra}


def restore_module(module: nn.Module, saved: Content) -> None:
    tensors = saved["tensors"]
    live = {name: (table, key) for name, table, key in _module_tensors(module)}
    missing = sorted(name.strip(".") for name in tensors if name not in live)
    if missing:
        raise CheckpointMismatch(f"The model has no {', '.join(missing[:5])}, which the checkpoint holds.")
    for name, (table, key) in live.items():
        value = restore(table[key], tensors.get(name))
        if value is not table[key]:
            table[key] = value
    for name in saved["without_gradient"]:
        table, key = live[name]
        table[key].grad = None
    for name, owner in _extra_state(module):
        if name in saved["extra"]:
            owner.set_extra_state(copy.deepcopy(saved["extra"][name]))


# -- optimizers --------------------------------------------------------------------------------------------------


def _numbered(optimizer: Optimizer) -> dict[int, Tensor]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return dict(enumerate(parameters))


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def save_optimizer(optimizer: Optimizer, old: Content, keep: Keep) -> Content:
    """State by parameter number; a parameter without state has no entry. Other keys are kept under "other"."""
    before = old.get("state", {})
    parameters = _numbered(optimizer)
    state = {
        number: save(optimizer.state[parameter], before.get(number), keep)
        for number, parameter in parameters.items()
        if parameter in optimizer.state
    }
    other = {key: save(value, None, keep) for key, value in optimizer.state.items() if isinstance(key, str)}
    groups = [save(_settings(group), None, keep) for group in optimizer.param_groups]
    return {"state": state, "other": other, "groups": groups}


def _device_of_state(group: dict[str, Any], parameter: Tensor) -> Callable[[Tensor], torch.device]:
    """State is where its parameter is; counters only with an optimizer that wants them there, as in PyTorch."""
    counters_too = group.get("capturable") or group.get("fused")
    return lambda saved: parameter.device if counters_too or saved.dim() > 0 else saved.device


def restore_optimizer(optimizer: Optimizer, saved: Content) -> None:
    if len(saved["groups"]) > len(optimizer.param_groups):
        raise CheckpointMismatch("The optimizer has fewer parameter groups than the checkpoint.")
    for group, settings in zip(optimizer.param_groups, saved["groups"]):
        for key, value in settings.items():
            group[key] = restore(group.get(key), value)
    numbers = count()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            number = next(numbers)
            if number in saved["state"]:
                live = optimizer.state.get(parameter)
                optimizer.state[parameter] = restore(live, saved["state"][number], _device_of_state(group, parameter))
            else:
                optimizer.state.pop(parameter, None)
    for key in [key for key in optimizer.state if isinstance(key, str) and key not in saved["other"]]:
        del optimizer.state[key]
    for key, value in saved["other"].items():
        optimizer.state[key] = restore(optimizer.state.get(key), value)
