"""What the comments of `directive.proto` define: the LR of every step, the rules for stopping, the switch points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from protocol.wire import name


def lr_line(pieces: Sequence[Any]) -> list[float]:
    """The LR of every step of some `LrPiece`s."""
    return [_lr(piece, piece.index + i) for piece in pieces for i in range(piece.steps)]


def _lr(piece: Any, j: int) -> float:
    u = 0.0 if piece.of == 1 else j / (piece.of - 1)
    start, end = piece.start, piece.end
    shape = name("LrPiece.Shape", piece.shape)
    if shape == "SHAPE_CONSTANT":
        return float(start)
    if shape == "SHAPE_LINEAR":
        return float(start + (end - start) * u)
    if shape == "SHAPE_COSINE":
        return float(start + (end - start) * (1 - math.cos(math.pi * u)) / 2)
    assert shape == "SHAPE_POWER", f"an LR piece of a new shape: {shape}"
    return float(start * ((piece.origin + j) / piece.origin) ** piece.exponent)


def first_match(rules: Sequence[Any], losses: Sequence[float]) -> tuple[int, int] | None:
    """(rule, offset) of the first match of some `StopIf`s."""
    emas = [rule.ema_above.start_value for rule in rules]
    for k, loss in enumerate(losses):
        for i, rule in enumerate(rules):
            decay = rule.ema_above.decay
            emas[i] = decay * emas[i] + (1 - decay) * loss
        matched = [i for i, rule in enumerate(rules) if _matches(rule, losses[: k + 1], emas[i])]
        if matched:
            return matched[0], k
    return None


def _matches(rule: Any, losses: Sequence[float], ema: float) -> bool:
    k, loss = len(losses) - 1, losses[-1]
    kind = rule.WhichOneof("rule")
    if not math.isfinite(loss):
        return bool(kind == "non_finite")
    if kind == "non_finite":
        return False
    body = getattr(rule, kind)
    if kind == "above":
        return bool(k >= getattr(body, "from") and loss > body.limit)
    if kind == "above_first":
        first = losses[0]
        return bool(k >= getattr(body, "from") and loss > first + body.factor * max(abs(first), body.floor))
    if kind == "mean_above":
        enough = k >= max(getattr(body, "from"), body.last - 1)
        return bool(enough and sum(losses[k + 1 - body.last :]) / body.last > body.limit)
    assert kind == "ema_above", f"a stop rule of a new kind: {kind}"
    return bool(k >= getattr(body, "from") and ema > body.limit)


def switch_point(k: int, every: int, steps: int) -> int:
    """Where a stop at offset k takes effect: the first multiple of `every` at or after k + every, or the end."""
    return min(-(-(k + every) // every) * every, steps)
