"""What judges take, and which of them can hold their weights in fewer bits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpo.planning.memory import BYTES, QUANTIZED_BYTES, model_costs
from mpo.recipe import Recipe
from reward.errors import RewardError
from reward.judges.options import OPTIONS
from reward.judging import Judging

CountJudge = Callable[[str, Mapping[str, Any]], int]  # a judge's name and options -> its parameters; raises RewardError


def judge_gb(judge: Judging, count_judge: CountJudge | None, notes: list[str]) -> float | None:
    """GB of the judge's weights on this machine's GPU; None = none, or unknown, which a note then says."""
    if judge.name == "measured":
        return None
    unchecked = (
        f"not checked: judge {judge.name!r}, which loads its weights when it is first asked; no estimate of its time"
    )
    if judge.name == "server":
        notes.append(f"{unchecked}; its memory is the server's")
        return None
    published = model_costs()["judges"].get(str(judge.options.get("model")))
    millions, reason = None, "its parameters are not counted"
    if count_judge:
        try:
            millions = count_judge(judge.name, judge.options) / 1e6
        except RewardError as error:
            reason = str(error)
    if millions is None and published:
        millions = published["parameters"]
        unchecked += "; its memory is that of the table of published models"
    notes.append(unchecked if millions else f"{unchecked} or memory ({reason})")
    if millions is None:
        return None
    return millions * _bytes_a_weight(judge) / 1e3


def _bytes_a_weight(judge: Judging) -> float:
    dtype = str(judge.options.get("dtype")).removeprefix("torch.")
    return QUANTIZED_BYTES.get(str(judge.options.get("quantization")), BYTES.get(dtype, 2))  # "auto": mostly bfloat16


def quantized_gb(changed: Recipe, recipe: Recipe, sizes_gb: Sequence[float | None]) -> float | None:
    """Memory of all judges, which are held together, as `changed` quantizes them. sizes_gb: as `recipe` has them."""
    found = []
    for new, old, size_gb in zip(changed.judge, recipe.judge, sizes_gb, strict=True):
        if size_gb is not None and new.options.get("quantization") != old.options.get("quantization"):
            size_gb *= _bytes_a_weight(new) / _bytes_a_weight(old)
        found.append(size_gb)
    known = [size_gb for size_gb in found if size_gb is not None]
    return sum(known) if known else None


def can_quantize(judging: Judging) -> bool:
    return judging.name in OPTIONS and "quantization" in OPTIONS[judging.name].model_fields


def quantized(judging: Judging, how: str) -> Judging:
    options = {**judging.options, "quantization": how}
    return judging.model_copy(update={"options": options}) if can_quantize(judging) else judging
