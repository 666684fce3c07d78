"""A learning-rate schedule from the AutoLRS service, for PyTorch training loops.

>>> import autolrs.torch as autolrs
>>> with autolrs.Schedule(optimizer, model, total_steps=20_000, job="resnet50") as schedule:
...     for batch in schedule.steps(loader):
...         loss = train_step(batch)  # forward, backward, optimizer.step()
...         schedule.step(loss)

The search tries LRs that diverge. A loop that checks its numbers (an `assert`, anomaly detection) wraps its step in
`with schedule.guarded():`; assertions on the device can't be caught: lower the top of `lr_range`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autolrs._exceptions import (
    AutoLRSWarning,
    CheckpointMismatch,
    CheckpointTooOld,
    Error,
    Fenced,
    InvalidSchedule,
    InvalidSpec,
    JobExists,
    JobFinished,
    JobInProgress,
    JobNotFound,
    OpenRefused,
    PermissionDenied,
    ResourceExhausted,
    ServerUnavailable,
    SessionActive,
    Unauthenticated,
    Unsupported,
)
from autolrs._families import lr_range_of
from autolrs._gloo import channel_of_ranks, replica
from autolrs._groups import GroupLRs, refuse_sharded, rms_decay_of
from autolrs._guard import GuardedSchedule
from autolrs._history import History, Step
from autolrs._losses import DeviceLosses, HostLosses, host_value
from autolrs._memory import MemoryStore
from autolrs._options import (
    CONNECT_TIMEOUT,
    DECISION_TIMEOUT,
    Options,
    check_choice,
    request_of,
    searches,
    with_options,
)
from autolrs._saved import SavedSchedule, load_schedule, replay
from autolrs._session import CLOSE_TIMEOUT, BaseSchedule
from autolrs._slots import Store, TorchSlots
from autolrs._validation import evaluation

if TYPE_CHECKING:
    from autolrs._options import Unpack

__all__ = [
    "AutoLRSWarning",
    "CheckpointMismatch",
    "CheckpointTooOld",
    "Error",
    "Fenced",
    "History",
    "InvalidSchedule",
    "InvalidSpec",
    "JobExists",
    "JobFinished",
    "JobInProgress",
    "JobNotFound",
    "OpenRefused",
    "PermissionDenied",
    "ResourceExhausted",
    "SavedSchedule",
    "Schedule",
    "ServerUnavailable",
    "SessionActive",
    "Step",
    "Unauthenticated",
    "Unsupported",
    "load_schedule",
    "replay",
]

# Steps between switch points when losses are on a device or in several processes: how long one may take to arrive.
_LATE_SWITCH_EVERY = 8


@with_options
class Schedule(GuardedSchedule):
    """Follows the learning rates that the service decides for one training run.

    With "scan" and a new `torch.optim.RMSprop`, the policy's option `rms_decay` is the optimizer's `alpha` if neither
    it nor `lr_factor` is given.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its groups keep their ratio to the largest initial LR; a group at 0 stays at 0.
    model : nn.Module or several
        What is trained; put back after every trial, like the optimizer's state.
    total_steps : int or None
        Budget in optimizer steps; the search's are included (at most a tenth of it with the default policy). An
        operator may change it later (`autolrs jobs update`): train until `done`, as `steps` does, not for a count.
        None with "scan": not known yet; end it with `finish()`. None with "replay": the steps of its schedule;
        fewer cut it, and with more its last LR holds.
    lr_range : (float, float), optional
        Lowest and highest LR that are *tried*; default by the optimizer's family.
    validate : function without arguments, optional
        Measures the validation loss of the weights at hand: a float, or a tensor of one number. Called after steps that
        the service names: at the end of each committed stretch, and in the trials of "paper" once it goes by the
        validation loss. The model (and modules in `also`) is in evaluation mode then and gradients are off; their
        modes and the random number generators are put back, so the training is the same with and without it.
    fallback_lr : float, optional
        Used where nothing is measured, and by the plain policies; default the optimizer's own LR.
    also : sequence
        Further state that a trial changes: EMA weights, a gradient scaler, a second optimizer, a
        `torch.Generator`; anything with `state_dict` and `load_state_dict`.
    rng : bool
        Put the random number generators back as well.
    slots : "device", "host" or "disk"
        Where copies of model and optimizer (two at most) are kept: beside the originals, in host memory, or in files
        (which need room for three). How large one is and where it goes is logged before the first is made.
    slots_directory : path, optional
        With slots="disk": a directory on a quick, local disk. The process makes its own in it, for its user alone, and
        removes it when the schedule is closed; default the system's directory for temporary files. If the disk is
        full, `Error` is raised and model and optimizer are left as they are.
    device_losses : bool, optional
        Whether losses are on a device; default: whether the parameters are.
    resume : mapping, optional
        The `state_dict()` of an earlier schedule, as with `load_state_dict`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module | Sequence[nn.Module],
        total_steps: int | None,
        *,
        lr_range: tuple[float, float] | None = None,
        validate: Callable[[], float | Tensor] | None = None,
        fallback_lr: float | None = None,
        also: Sequence[object] = (),
        rng: bool = False,
        slots: str = "device",
        slots_directory: str | os.PathLike[str] | None = None,
        device_losses: bool | None = None,
        resume: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_choice("slots", slots, ("device", "host", "disk"))
        models = [model] if isinstance(model, nn.Module) else list(model)
        _refuse_unsupported(nn.ModuleList(models), optimizer)
        # A checkpoint of several processes serves one as well.
        module = replica(model) if isinstance(model, nn.Module) else nn.ModuleList(map(replica, models))
        self._optimizer = optimizer
        self._groups = GroupLRs(optimizer)
        if resume is not None:
            self._groups.load(**resume["groups"])
        if lr_range is None and searches(options):
            lr_range = lr_range_of(optimizer)
        of_policy = options.get("options") or {}
        if options.get("policy", "scan") == "scan" and not {"rms_decay", "lr_factor"} & set(of_policy):
            decay = rms_decay_of(optimizer)
            if decay is not None:
                options["options"] = {**of_policy, "rms_decay": decay}
        if device_losses is None:
            device_losses = any(parameter.device.type != "cpu" for parameter in module.parameters())
        channel = channel_of_ranks(
            options.get("connect_timeout", CONNECT_TIMEOUT) + options.get("decision_timeout", DECISION_TIMEOUT)
        )
        self._device: DeviceLosses | HostLosses | None = None
        if device_losses:
            self._device = DeviceLosses()
        elif channel is not None:
            self._device = HostLosses()
        self._validate = validate
        self._evaluated = [*models, *(part for part in also if isinstance(part, nn.Module))]
        request = request_of(
            options,
            total_steps=total_steps,
            lr_range=lr_range,
            fallback_lr=self._groups.base if fallback_lr is None else fallback_lr,
            validate=validate is not None,
            switch_every=1 if self._device is None else _LATE_SWITCH_EVERY,
            resume=resume,
        )
        self._torch_slots = TorchSlots(module, optimizer, also, rng, _store(slots, slots_directory))
        super().__init__(request, self._torch_slots, channel)
        if resume is None:
            self._open()
        else:
            self.load_state_dict(resume)

    def step(self, loss: float | Tensor) -> None:
        """Reports the loss of one optimizer step and sets the LR of the next.

        Call it once after every `optimizer.step()`, in each of several processes with its own loss. Waits for the
        server only where a directive ends. A loss on a device is not read at once; don't overwrite its tensor in place
        within the next 16 steps.
        """
        if not self._live:
            self._not_live()
            return
        if self._device is None:
            value = loss if type(loss) is float else host_value(loss)
            code = self._record(value)
            self._history.add_loss(value)
        else:
            self._device.add(loss)
            code = self._tick()
        self._history.add_lr(self._lr)
        self._hold_lr()
        if code:
            self._after_step(code)

    def get_last_lr(self) -> list[float]:
        """The LR of each parameter group, as PyTorch's schedulers give it."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["core"] = _to_tensor(state["core"])
        for column in ("lr", "loss"):
            state["history"][column] = _to_tensor(state["history"][column])
        state["groups"] = {"base": self._groups.base, "ratios": list(self._groups.ratios)}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        plain = dict(state)
        if "groups" in plain:
            self._groups.load(**plain.pop("groups"))
            plain["core"] = _to_bytes(plain["core"])
            plain["history"] = {
                name: _to_bytes(column) if isinstance(column, Tensor) else column
                for name, column in plain["history"].items()
            }
        if self._device is not None:
            self._device.drain()
        super().load_state_dict(plain)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        super().close(timeout)
        self._torch_slots.close()

    close.__doc__ = BaseSchedule.close.__doc__
    state_dict.__doc__ = BaseSchedule.state_dict.__doc__
    load_state_dict.__doc__ = BaseSchedule.load_state_dict.__doc__

    def _hold_lr(self) -> None:
        """Just before `optimizer.step()`, where a framework tells us: the schedule's LR is in force."""
        if not self._groups.untouched():
            self._groups.reclaim()

    def _apply_lr(self, lr: float) -> None:
        self._groups.put(lr)

    def _measured_validation(self) -> float:
        assert self._validate is not None  # the request promised it
        try:
            with evaluation(self._evaluated):
                return host_value(self._validate())
        except Exception as error:
            if self._forgives(error):
                return float("nan")
            raise

    def _ripe_losses(self) -> list[float]:
        return self._device.ripe() if self._device is not None else []

    def _pending_losses(self) -> list[float]:
        return self._device.drain() if self._device is not None else []

    def _unheard_losses(self) -> list[float]:
        return self._device.peek() if self._device is not None else []

    def _diverged(self) -> None:
        """Its gradients are of no use either."""
        self._optimizer.zero_grad(set_to_none=True)
        self.step(float("nan"))


def _refuse_unsupported(module: nn.Module, optimizer: Optimizer) -> None:
    refuse_sharded(optimizer)
    sharded = {"FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine"}
    kinds = {kind.__name__ for part in module.modules() for kind in type(part).__mro__}
    kinds |= {"FSDPModule" for parameter in module.parameters() if type(parameter).__name__ == "DTensor"}
    if kinds & sharded:
        raise Unsupported(
            "Sharded models (FSDP, ZeRO) can't be put back after a trial by this release. Use a replicated model."
        )


def _store(slots: str, directory: str | os.PathLike[str] | None) -> Store:
    if slots == "disk":
        from autolrs._disk import DiskStore  # needs Unix

        return DiskStore(directory)
    if directory is not None:
        raise ValueError(f'slots_directory needs slots="disk", not {slots!r}')
    return MemoryStore(on_host=slots == "host")


def _to_tensor(data: bytes) -> Tensor:
    """Bytes as a tensor: `torch.load(weights_only=True)` takes tensors, not bytes."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _to_bytes(data: Tensor | bytes) -> bytes:
    return bytes(data.cpu().numpy().tobytes()) if isinstance(data, Tensor) else data
