"""Checkpoint slots for PyTorch: copies of the trainer's state that never leave the trainer.

A slot's content is nested dicts and lists of tensors and plain values, keyed by names and indices, so the same
content serves in memory and in the user's checkpoint file. Restoring copies into the tensors that are there:
their storage addresses stay, the values are the saved ones to the bit. What did not exist when the slot was
saved (lazily created optimizer state, buffers, gradients) is removed again.
"""

from __future__ import annotations

import copy
import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autolrs._exceptions import CheckpointMismatch, Unsupported

logger = logging.getLogger("autolrs")

Content = dict[str, Any]


class TorchSlots:
    """The named slots of one trainer.

    Parameters
    ----------
    model, optimizer : what is trained
    also : further state: modules, optimizers, tensors, generators, or anything with `state_dict` and `load_state_dict`
    rng : keep the random number generators too (torch, its devices, `random`, numpy's global one)
    on_host : keep the copies in host memory instead of on the tensors' own devices
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, also: Sequence[object], rng: bool, on_host: bool
    ) -> None:
        self._module = model
        self._optimizer = optimizer
        self._also = [_keeper(thing) for thing in also]
        self._rng = rng
        self._on_host = on_host
        self._slots: dict[str, Content] = {}
        self._largest_logged = 0
        known = {id(parameter) for parameter in model.parameters()}
        self._loose = [
            parameter for group in optimizer.param_groups for parameter in group["params"] if id(parameter) not in known
        ]

    def save(self, name: str) -> None:
        """Copies the live state into the slot; an older content of that name is overwritten."""
        old = self._slots.get(name, {})
        if not old:
            self._say_size()
        with torch.no_grad():
            self._slots[name] = self._capture(old)

    def restore(self, name: str) -> None:
        """Puts the slot's content back into the live state. The LR of the groups is the caller's to set."""
        self._put_back(self._slots[name])

    def drop(self, name: str) -> None:
        """Frees the slot."""
        self._slots.pop(name, None)

    def content(self, name: str) -> Content:
        """What the slot holds, for a checkpoint file; the tensors are the slot's own."""
        return self._slots[name]

    def adopt(self, name: str, content: Content) -> None:
        """Takes a content from a checkpoint file as this slot and puts it into the live state."""
        self._put_back(content)
        self.save(name)

    def names(self) -> list[str]:
        """The slots that hold something."""
        return list(self._slots)

    def size(self) -> int:
        """Bytes that a slot saved now would take."""
        live = [_live_tensors(self._module), self._loose, list(self._optimizer.state.values())]
        return _bytes_in(live + [keeper.live() for keeper in self._also])

    def _capture(self, old: Content) -> Content:
        host = self._on_host
        content: Content = {
            "model": _save_module(self._module, old.get("model", {}), host),
            "optimizer": _save_optimizer(self._optimizer, old.get("optimizer", {}), host),
            "loose": _save(self._loose, old.get("loose"), host),
            "also": [
                keeper.save(before, host)
                for keeper, before in zip(self._also, old.get("also") or [{}] * len(self._also))
            ],
        }
        if self._rng:
            content["rng"] = _save_rng()
        return content

    def _put_back(self, content: Content) -> None:
        if len(content["also"]) != len(self._also) or len(content["loose"]) != len(self._loose):
            raise CheckpointMismatch(
                "The checkpoint holds another number of objects than this trainer: "
                "pass the same model, optimizer and also=[...] as when it was written."
            )
        with torch.no_grad():
            _restore_module(self._module, content["model"])
            _restore(self._loose, content["loose"])
            _restore_optimizer(self._optimizer, content["optimizer"])
            for keeper, saved in zip(self._also, content["also"]):
                keeper.restore(saved)
        if self._rng and "rng" in content:
            _restore_rng(content["rng"])

    def _say_size(self) -> None:
        size = self.size()
        if size > 1.1 * self._largest_logged:
            self._largest_logged = size
            where = "host memory" if self._on_host else "the memory of the model's device"
            logger.info("a checkpoint slot takes %.1f MB of %s; at most two are kept", size / 1e6, where)


# -- copying nested values ---------------------------------------------------------------------------------------


def _save(live: Any, old: Any, host: bool) -> Any:
    """A copy of `live`, into the tensors of `old` where they fit."""
    if isinstance(live, Tensor):
        device = torch.device("cpu") if host else live.device
        if _fits(old, live, device):
            return old.copy_(live)
        return live.detach().to(device=device, copy=True)
    if isinstance(live, Mapping):
        before = old if isinstance(old, Mapping) else {}
        return {key: _save(value, before.get(key), host) for key, value in live.items()}
    if isinstance(live, (list, tuple)):
        known = old if isinstance(old, list) and len(old) == len(live) else [None] * len(live)
        copied = [_save(value, before, host) for value, before in zip(live, known)]
        return copied if isinstance(live, list) else tuple(copied)
    return copy.deepcopy(live)


def _restore(live: Any, saved: Any, device: torch.device | None = None) -> Any:
    """`saved`, in the tensors and containers of `live` where they fit; new tensors go to `device`."""
    if isinstance(saved, Tensor):
        if isinstance(live, Tensor) and _fits(live, saved, live.device):
            return live.copy_(saved)
        at = device if device is not None and saved.dim() > 0 else saved.device
        return saved.to(device=at, copy=True)
    if isinstance(saved, Mapping):
        target: Any = live if isinstance(live, dict) else {}
        for key in [key for key in target if key not in saved]:
            del target[key]
        for key, value in saved.items():
            target[key] = _restore(target.get(key), value, device)
        return target
    if isinstance(saved, (list, tuple)):
        known = live if isinstance(live, (list, tuple)) and len(live) == len(saved) else [None] * len(saved)
        values = [_restore(before, value, device) for before, value in zip(known, saved)]
        return values if isinstance(saved, list) else tuple(values)
    return copy.deepcopy(saved)


def _fits(into: Any, value: Tensor, device: torch.device) -> bool:
    return (
        isinstance(into, Tensor) and into.shape == value.shape and into.dtype == value.dtype and into.device == device
    )


def _bytes_in(value: Any) -> int:
    if isinstance(value, Tensor):
        return int(value.numel() * value.element_size())
    if isinstance(value, Mapping):
        return sum(_bytes_in(each) for each in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes_in(each) for each in value)
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


def _live_tensors(module: nn.Module) -> list[Any]:
    return [table[key] for _, table, key in _module_tensors(module)]


def _extra_state(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, owner in module.named_modules():
        if type(owner).get_extra_state is not nn.Module.get_extra_state:
            yield name, owner


def _save_module(module: nn.Module, old: Content, host: bool) -> Content:
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
        tensors[name] = _save(value, before.get(name), host)
        if isinstance(value, nn.Parameter) and value.grad is None:
            without_gradient.append(name)
    extra = {name: copy.deepcopy(owner.get_extra_state()) for name, owner in _extra_state(module)}
    return {"tensors": tensors, "without_gradient": without_gradient, "extra": extra}


def _restore_module(module: nn.Module, saved: Content) -> None:
    tensors = saved["tensors"]
    live = {name: (table, key) for name, table, key in _module_tensors(module)}
    missing = sorted(name.strip(".") for name in tensors if name not in live)
    if missing:
        raise CheckpointMismatch(f"The model has no {', '.join(missing[:5])}, which the checkpoint holds.")
    for name, (table, key) in live.items():
        value = _restore(table[key], tensors.get(name))
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


def _save_optimizer(optimizer: Optimizer, old: Content, host: bool) -> Content:
    """State by parameter number; a parameter without state has no entry. Other keys are kept under "other"."""
    before = old.get("state", {})
    parameters = _numbered(optimizer)
    state = {
        number: _save(optimizer.state[parameter], before.get(number), host)
        for number, parameter in parameters.items()
        if parameter in optimizer.state
    }
    other = {key: _save(value, None, host) for key, value in optimizer.state.items() if isinstance(key, str)}
    groups = [_save(_settings(group), None, host) for group in optimizer.param_groups]
    return {"state": state, "other": other, "groups": groups}


def _restore_optimizer(optimizer: Optimizer, saved: Content) -> None:
    if len(saved["groups"]) > len(optimizer.param_groups):
        raise CheckpointMismatch("The optimizer has fewer parameter groups than the checkpoint.")
    for group, settings in zip(optimizer.param_groups, saved["groups"]):
        for key, value in settings.items():
            group[key] = _restore(group.get(key), value)
    for number, parameter in _numbered(optimizer).items():
        if number in saved["state"]:
            live = optimizer.state.get(parameter)
            optimizer.state[parameter] = _restore(live, saved["state"][number], parameter.device)
        else:
            optimizer.state.pop(parameter, None)
    for key in [key for key in optimizer.state if isinstance(key, str) and key not in saved["other"]]:
        del optimizer.state[key]
    for key, value in saved["other"].items():
        optimizer.state[key] = _restore(optimizer.state.get(key), value)


# -- further state -----------------------------------------------------------------------------------------------


class _Keeper:
    """Saves and restores one object of `also`."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def live(self) -> Any:
        """What is there now; not copied."""
        return self._thing.state_dict()

    def save(self, old: Content, host: bool) -> Content:
        return {"state": _save(self.live(), old.get("state"), host)}

    def restore(self, saved: Content) -> None:
        self._thing.load_state_dict(_restore(None, saved["state"]))


class _ModuleKeeper(_Keeper):
    def live(self) -> Any:
        return _live_tensors(self._thing)

    def save(self, old: Content, host: bool) -> Content:
        return _save_module(self._thing, old, host)

    def restore(self, saved: Content) -> None:
        _restore_module(self._thing, saved)


class _OptimizerKeeper(_Keeper):
    def live(self) -> Any:
        return list(self._thing.state.values())

    def save(self, old: Content, host: bool) -> Content:
        return _save_optimizer(self._thing, old, host)

    def restore(self, saved: Content) -> None:
        _restore_optimizer(self._thing, saved)


class _TensorKeeper(_Keeper):
    def live(self) -> Any:
        return self._thing

    def restore(self, saved: Content) -> None:
        self._thing.copy_(saved["state"])


class _GeneratorKeeper(_Keeper):
    def live(self) -> Any:
        return self._thing.get_state()

    def restore(self, saved: Content) -> None:
        self._thing.set_state(saved["state"].cpu())


def _keeper(thing: object) -> _Keeper:
    if isinstance(thing, nn.Module):
        return _ModuleKeeper(thing)
    if isinstance(thing, Optimizer):
        return _OptimizerKeeper(thing)
    if isinstance(thing, Tensor):
        return _TensorKeeper(thing)
    if isinstance(thing, torch.Generator):
        return _GeneratorKeeper(thing)
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return _Keeper(thing)
    raise TypeError(
        f"also=[...] can't keep a {type(thing).__name__}: it needs state_dict() and load_state_dict(), or to be "
        "a module, an optimizer, a tensor or a torch.Generator."
    )


# -- random number generators ------------------------------------------------------------------------------------


def _save_rng() -> Content:
    state: Content = {"torch": torch.get_rng_state(), "python": list(random.getstate())}
    cuda: Any = torch.cuda  # partly untyped in older releases
    if cuda.is_available() and cuda.is_initialized():
        state["cuda"] = cuda.get_rng_state_all()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, position, has_gauss, gauss = numpy.random.get_state()
        state["numpy"] = [name, [int(key) for key in keys], position, has_gauss, gauss]
    return state


def _restore_rng(state: Content) -> None:
    torch.set_rng_state(state["torch"].cpu())
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state:
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    if "numpy" in state:
        import numpy

        name, keys, position, has_gauss, gauss = state["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype="uint32"), position, has_gauss, gauss))
