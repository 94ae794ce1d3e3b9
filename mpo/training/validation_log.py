"""What validation found, a line a step: validation.jsonl. Apart from validation itself, so that pages read it without torch."""

from dataclasses import dataclass

from mpo import MpoError
from mpo.run_folder.files import read_lines
from mpo.run_folder.paths import RunFolder


@dataclass(frozen=True)
class Validated:
    """One line of validation.jsonl."""

    step: int  # 0 = as training begins: untuned, or with the LoRA that the recipe starts from
    total: float  # mean over pictures
    dimensions: dict[str, float]


def read_validations(run: RunFolder) -> list[Validated]:
    """In the order of their steps. Raises MpoError if validation.jsonl is damaged."""
    try:
        found = [Validated(**record) for record in read_lines(run.validation_log)]
    except TypeError:
        raise MpoError(f"{run.validation_log} is damaged; run `mpo train {run.folder} --repair`") from None
    return sorted(
        found, key=lambda validated: validated.step
    )  # a run that was ended earlier may validate that step last
