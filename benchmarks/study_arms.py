"""What `benchmarks.study` compares: its arms, the seeds of a repetition, and fresh prompts. docs/study.md explains the choices."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpo.embedded.clips import clip_caption, sample_moving_scene
from mpo.embedded.scenes import caption, sample_scene
from mpo.recipe import find_prompts, load_recipe

SEED = 2025  # of prompts


@dataclass(frozen=True)
class Arm:
    """How an arm's recipe differs from the study's, and whose work of the same repetition it takes over."""

    settings: tuple[str, ...] = ()  # of `mpo run --set`
    source: str | None = "dominance"  # None = it makes all itself
    recipe: str = "quickstart"


@dataclass(frozen=True)
class Setup:
    """What all arms of a recipe have in common."""

    settings: tuple[str, ...]
    sample_caption: Callable[[np.random.Generator], str]
    num_train: int  # prompts of a repetition
    num_heldout: int
    prefix: str = ""  # of the names of its prompt files

    def prompt_file(self, name: str) -> str:
        """Of a repetition's "train" or "heldout" prompts, or of those for "choosing" settings."""
        return f"{self.prefix}{name}.txt"


# With other prompts there may be fewer pairs that dominate than with a recipe's own (1,300 and 98), which sets the numbers here.
SETUPS = {
    "quickstart": Setup(
        (
            "select.num_pairs=1000",
            "evaluate.judges=[{name: 'mpo.embedded.oracle:Oracle'}, {name: 'benchmarks.people:People', checklist: taste.yaml, questions: answerable}]",
        ),
        lambda rng: caption(sample_scene(rng)),
        num_train=256,
        num_heldout=128,
    ),
    "quickstart-video": Setup(
        ("select.num_pairs=70",),
        lambda rng: clip_caption(sample_moving_scene(rng)),
        num_train=48,
        num_heldout=128,
        prefix="clips-",
    ),
}

FEW = "select.num_pairs=500"  # where some arm of a group has no more

ARMS: dict[str, Arm] = {
    "dominance": Arm(source=None),
    "total": Arm(("select.strategy=total",)),
    "clips-dominance": Arm(source=None, recipe="quickstart-video"),
    "clips-total": Arm(("select.strategy=total",), source="clips-dominance", recipe="quickstart-video"),
    # Weights learnt from the votes of simulated people (benchmarks/people.py).
    "people-learnt": Arm(("judge.checklist=learnt.yaml",)),
    # Other losses at the same beta; settings as their authors have them, or docs/training.md.
    "ipo": Arm(("train.objective=ipo",)),
    "hinge": Arm(("train.objective=hinge",)),
    "mapo": Arm(("train.objective=mapo", "train.beta=0.1", "train.safeguard=null")),
    "label-smoothing": Arm(("train.label_smoothing=0.1",)),
    "no-safeguard": Arm(("train.safeguard=null",)),
    "gradient-factor": Arm(("train.gradient_factor=0.2",)),
    # As many pairs and steps over all rounds as the others have in one.
    "rounds-2": Arm(("rounds=2", "select.num_pairs=500", "train.num_steps=60")),
    "rounds-3": Arm(("rounds=3", "select.num_pairs=333", "train.num_steps=40")),
    # A dimension's scores span less than the total: at these margins each has about 1,000 pairs, fidelity 700.
    "dominance-500": Arm((FEW,)),
    "alignment": Arm((FEW, "select.strategy=dimension:alignment")),
    "composition": Arm((FEW, "select.strategy=dimension:composition", "select.margin=0.3")),
    "quality": Arm((FEW, "select.strategy=dimension:quality", "select.margin=0.2")),
    "fidelity": Arm((FEW, "select.strategy=dimension:fidelity", "select.margin=0.0")),
    "subdimension": Arm((FEW, "select.granularity=subdimension")),
    "question": Arm((FEW, "select.granularity=question")),
    "margin-0.0": Arm((FEW, "select.margin=0.0")),
    "margin-0.3": Arm((FEW, "select.margin=0.3")),
    "margin-1.2": Arm((FEW, "select.margin=1.2")),
    # All the pairs that so many candidates give, in as many steps; or about as many pairs as six give, the widest.
    "candidates-4": Arm(("generate.num_candidates=4", "select.num_pairs=null")),
    "candidates-12": Arm(("generate.num_candidates=12", "select.num_pairs=null")),
    "candidates-12-widest": Arm(
        ("generate.num_candidates=12", "select.num_pairs=null", "select.pairs_per_prompt=5"), source="candidates-12"
    ),
    # Half of the steps for the candidates; training and evaluation as before.
    "unipc-10": Arm(("generate.scheduler=UniPCMultistepScheduler", "generate.num_inference_steps=10")),
}

# Each group's first arm is what its others are compared with. The order is that of the work.
GROUPS: dict[str, tuple[str, ...]] = {
    "strategies": ("dominance", "total"),
    "clips": ("clips-dominance", "clips-total"),
    "people": ("dominance", "people-learnt"),
    "dimensions": ("dominance-500", "alignment", "composition", "quality", "fidelity"),
    "rounds": ("dominance", "rounds-2", "rounds-3"),
    "objectives": ("dominance", "ipo", "hinge", "mapo", "label-smoothing", "no-safeguard", "gradient-factor"),
    "granularity": ("dominance-500", "subdimension", "question"),
    "margins": ("dominance-500", "margin-0.0", "margin-0.3", "margin-1.2"),
    "candidates": ("dominance", "candidates-4", "candidates-12", "candidates-12-widest"),
    "sampling": ("dominance", "unipc-10"),
}


def settings_of(arm: str, repetition: int) -> list[str]:
    """All that an arm sets on top of its recipe. Seeds are far apart: later rounds add to them."""
    seed = 1000 + 100 * repetition
    seeds = (f"seed={seed}", f"train.seed={seed}", f"evaluate.seed={seed + 1}")
    setup = SETUPS[ARMS[arm].recipe]
    prompts = (f"prompts.{name}={setup.prompt_file(name)}" for name in ("train", "heldout"))
    # A checkpoint less often takes less disk; the last step always has one.
    return [*prompts, "train.checkpoint_interval_steps=1000", *setup.settings, *seeds, *ARMS[arm].settings]


def with_sources(arms: Collection[str]) -> list[str]:
    """These arms, those whose work they take over, and those that they are compared with, in the order of the work."""
    wanted = set(arms)
    wanted |= {names[0] for names in GROUPS.values() if wanted & set(names)}
    while missing := {source for arm in wanted if (source := ARMS[arm].source)} - wanted:
        wanted |= missing
    return [arm for arm in dict.fromkeys(name for names in GROUPS.values() for name in names) if arm in wanted]


def role(text: str) -> str:
    """What a caption may be used for in every repetition: "train", "heldout" or "choosing"; by chance, but always the same."""
    place = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
    return "train" if place < 6 else "heldout" if place < 9 else "choosing"


def draw_prompts(wanted: str, count: int, repetition: int, recipe: str = "quickstart") -> list[str]:
    """Captions of random scenes as the embedded model's own, of one role, each once, and none of the recipe's prompts.

    Repetitions draw independently: no held-out caption is ever trained on, but two repetitions may share one.
    """
    own = load_recipe(recipe).prompts
    files = [find_prompts(source.path) for source in (own.train, own.heldout) if source is not None]
    shipped = {line for file in files for line in file.read_text("utf-8").splitlines()}
    rng = np.random.default_rng((SEED, repetition, ("train", "heldout", "choosing").index(wanted)))
    found: dict[str, None] = {}
    while len(found) < count:
        text = SETUPS[recipe].sample_caption(rng)
        if role(text) == wanted and text not in shipped:
            found[text] = None
    return list(found)


def write_prompts(folder: Path, repetition: int, num_train: int | None = None, num_heldout: int | None = None) -> None:
    """A repetition's prompt files, such as train.txt and clips-heldout.txt. None = as many as the study has."""
    for recipe, setup in SETUPS.items():
        for name, count in (("train", num_train or setup.num_train), ("heldout", num_heldout or setup.num_heldout)):
            text = "\n".join(draw_prompts(name, count, repetition, recipe)) + "\n"
            (folder / setup.prompt_file(name)).write_text(text, "utf-8")
