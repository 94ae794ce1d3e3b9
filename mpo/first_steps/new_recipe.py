"""A recipe of one's own from a few answers: a shipped recipe of the model's family, with what the answers change."""

import math
from dataclasses import dataclass
from typing import Any

from mpo import MpoError
from mpo.data.prompts import read_prompts
from mpo.first_steps.answers import SHIPPED_PROMPTS, Answers, parse_judge, parse_model
from mpo.first_steps.commented_yaml import Comments, read_comments, write_commented
from mpo.first_steps.draft import Draft
from mpo.first_steps.prompt_sets import set_prompts
from mpo.first_steps.starting_points import StartingPoint, starting_point
from mpo.planning.fit import Change, with_changes
from mpo.recipe import PromptSource, Recipe, find_prompts, parse_recipe, shipped_recipes
from reward.errors import JudgeError
from reward.judging import Judging, load_reward
from reward.settings import read_yaml

# In the checklists' units: the paper's (arXiv 2412.21059), and quickstart-video's for weights that were learnt. A scorer's unit is its own.
MARGINS = {"image": 0.6, "video": 0.6, "video-measured": 3.0}
PASSES = 3  # over the pairs: as the quickstart has it; the shipped recipes see theirs once or twice
MIN_STEPS, USUAL_STEPS, SMALL_BATCH = 10, 100, 32


@dataclass(frozen=True)
class NewRecipe:
    """Fields and comments, as the file has them."""

    fields: dict[str, Any]
    comments: Comments
    head: tuple[str, ...]
    start: StartingPoint

    @property
    def recipe(self) -> Recipe:
        return parse_recipe(self.fields, source=self.fields["name"])

    def text(self) -> str:
        """The file."""
        return "".join(f"# {line}\n" for line in self.head) + write_commented(self.fields, self.comments)

    def changed(self, changes: tuple[Change, ...], why: str) -> "NewRecipe":
        """With changes that `plan` found, each with a comment that says why."""
        new = Draft(self.fields, self.comments)
        before = self.recipe
        for section, name, value in changes:
            if with_changes(before, [(section, name, value)]) == before:
                continue
            if section == "prompts":
                new.remove("prompts", name)
                new.remove(name)
            elif section == "judge":
                new.set(("judge", "options", name.removeprefix("options.")), value, why)
            else:
                new.set((section, *name.split(".")), value, why)
        return NewRecipe(new.fields, new.comments, self.head, self.start)


def new_recipe(answers: Answers) -> NewRecipe:
    """The recipe before it is fitted into a memory. Raises MpoError or RewardError with one line that names the answer."""
    start = starting_point(parse_model(answers.model), answers.like)
    text = shipped_recipes()[start.recipe].read_text("utf-8")
    draft = Draft(read_yaml(text), read_comments(text))
    draft.set(("name",), answers.name)
    draft.set(("description",), f"{answers.model} on its own samples, as `mpo init` made it from {start.recipe}.")
    draft.remove("tracking")  # no account is needed; docs/training.md says how curves are shown elsewhere
    if draft.has("preferences"):
        raise MpoError(
            f"--like={answers.like!r} takes pairs that people chose; name a recipe that samples, such as sdxl"
        )
    _set_model(draft, answers, start)
    num_prompts = set_prompts(draft, answers)
    _set_judge(draft, answers, start)
    if num_prompts is not None:
        _set_training(draft, num_prompts)
    if answers.memory_gb is None:
        _set_for_a_cpu(draft)
    return NewRecipe(draft.fields, draft.comments, _head(answers, start), start)


def _head(answers: Answers, start: StartingPoint) -> tuple[str, ...]:
    own, other = "the shipped recipe of its family", "the nearest shipped recipe: its family has none of its own"
    whose = own if start.is_of_family else other
    where = f"a GPU of {answers.memory_gb:g} GB" if answers.memory_gb is not None else "a machine without a GPU"
    return (
        f"{answers.model} for {where}, made by `mpo init` from {start.recipe}, {whose}.",
        "Comments without a word about `mpo init` are that recipe's. Every field: docs/training.md. Next: mpo run THIS-FILE --dry-run",
    )


def _set_model(draft: Draft, answers: Answers, start: StartingPoint) -> None:
    if draft.fields["model"]["path"] == answers.model:
        return
    draft.set(("model", "path"), answers.model)
    if start.size is not None:
        size = [start.size.width, start.size.height]
        size += [] if start.size.frames is None else [start.size.frames, int(start.size.fps or 8)]
        draft.set(("model", "sizes"), [size], "the model's own; others: docs/training.md")
    if start.has_two_experts:
        draft.set(("model", "expert"), "low", "of its two networks; high is tuned by a run of its own")
    if not start.is_of_family:
        draft.remove("train", "timestep_shift")
        draft.remove("train", "distilled_guidance")
        draft.remove("train", "lora_targets")
    if start.is_of_family and not start.ignores_guidance:
        return
    sampling = start.sampling() | ({"guidance_scale": 1.0} if start.ignores_guidance else {})
    for section in ("generate", "validation", "evaluate"):
        for name, value in sampling.items():
            if draft.has(section):
                draft.set((section, name), value, "the pipeline's default in diffusers")


# The judge.


def _set_judge(draft: Draft, answers: Answers, start: StartingPoint) -> None:
    judge = parse_judge(answers.judge, start.kind)
    old = draft.fields["judge"]
    if judge["name"] != old["name"] or judge.get("options") != old.get("options"):
        draft.set(("judge",), judge)
    own_prompts = answers.prompts != SHIPPED_PROMPTS
    if own_prompts or judge["name"] != "measured":  # the quickstart's oracle knows the embedded model's words alone
        draft.remove("evaluate", "judges")
    if judge["name"] == "measured" and (own_prompts or answers.heldout) and not _can_read(draft):
        asked = load_reward([Judging(**{**judge, "questions": "answerable"})]).without_alignment().checklist
        why = "without those about the text: `measured` reads coloured shapes alone"
        draft.set(("judge", "questions"), list(asked.question_ids), why)
    margin = MARGINS.get(judge.get("checklist", ""))
    if judge.get("checklist") != old.get("checklist"):
        why = "any lead: the scorer has a unit of its own" if margin is None else "in the checklist's unit"
        draft.set(("select", "margin"), margin or 0.0, why)


def _can_read(draft: Draft) -> bool:
    """Whether the measured judge can read all prompts that are on this machine."""
    prompts = draft.fields["prompts"]
    sources = [prompts[name] for name in ("train", "heldout", "validation") if prompts.get(name)]
    judging = Judging(**{**draft.fields["judge"], "questions": draft.fields["judge"].get("questions", "all")})
    try:
        for source in sources:
            fields = {"path": source} if isinstance(source, str) else source
            if not find_prompts(fields["path"]).exists():
                return False
            load_reward([judging]).require_prompts(read_prompts(PromptSource.model_validate(fields), field="--prompts"))
    except JudgeError:
        return False
    return True


# Training.


def _set_training(draft: Draft, num_prompts: int) -> None:
    """Fewer steps for fewer prompts: the shipped recipe's would see each pair hundreds of times."""
    train, select, k = draft.fields["train"], draft.fields["select"], draft.fields["generate"]["num_candidates"]
    if select.get("num_pairs"):
        draft.remove("select", "num_pairs")  # how many there will be is not known
    pairs = num_prompts * (select.get("pairs_per_prompt") or k * (k - 1) // 2)

    def steps(batch: int) -> int:
        return max(MIN_STEPS, math.ceil(PASSES * pairs / batch))

    old, batch = train["num_steps"], train["batch_size"]
    if steps(batch) >= old:
        return
    if steps(batch) < USUAL_STEPS and batch > SMALL_BATCH:
        batch = SMALL_BATCH
        draft.set(("train", "batch_size"), batch, f"`mpo init`: {train['batch_size']} would leave few steps")
    num = min(old, steps(batch))
    draft.set(("train", "num_steps"), num, f"`mpo init`: up to {PASSES} passes over at most {pairs} pairs")
    tenth = max(1, num // 10)
    for section, name, value in (
        ("train", "warmup_steps", min(train.get("warmup_steps", 0), tenth)),
        ("train", "checkpoint_interval_steps", min(train["checkpoint_interval_steps"], tenth)),
        ("validation", "interval_steps", 2 * tenth),
    ):
        if draft.has(section, name) and value < draft.fields[section][name]:
            draft.set((section, name), value, "`mpo init`: by the number of steps")
    micro = train.get("micro_batch_size")
    if micro and batch % micro:
        draft.set(("train", "micro_batch_size"), math.gcd(micro, batch))


def _set_for_a_cpu(draft: Draft) -> None:
    if draft.fields["model"].get("dtype", "float32") != "float32":
        draft.set(("model", "dtype"), "float32", "`mpo init`: for a CPU")
    if draft.has("train", "mixed_precision"):
        draft.remove("train", "mixed_precision")
    if draft.has("judge", "options", "dtype"):
        draft.set(("judge", "options", "dtype"), "float32", "`mpo init`: for a CPU")
