"""Every field of a recipe does something: set to another value it changes what a public call gives, or is refused.

A new field fails here until it has an entry. What only a run shows is proved by another test, which is named and looked up.
"""

import ast
import copy
import inspect
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import datasets
import numpy as np
import pytest
import torch
import yaml
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from pydantic import BaseModel
from safetensors.torch import load_file

import mpo.data.prompts
import mpo.data.readers
import mpo.models.loading
import mpo.stages.evaluate
import mpo.stages.generate
import mpo.training.validation
from mpo import MpoError
from mpo.comparison.dominance import preferred_pairs
from mpo.comparison.win_rates import summary_of
from mpo.data.preferences import read_preferences
from mpo.data.prompts import read_prompt_sets
from mpo.dependencies import stages_of
from mpo.models.checks import check_model
from mpo.models.families import stable_diffusion
from mpo.models.loading import load_pipeline
from mpo.models.lora import inject_lora
from mpo.models.noise import error_weights
from mpo.models.sampling import size_of
from mpo.recipe import Recipe, dump_recipe, parse_recipe, read_recipe
from mpo.run_folder.files import write_json, write_text
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import PROMPTS, write_table
from mpo.scoring import check_judge
from mpo.stages.select import Block
from mpo.stages.train import train
from mpo.training.batches import Draw, draw_noise, micro_batch_size, stream
from mpo.training.divergence import refuse_divergence
from mpo.training.objectives import find_objective
from mpo.training.optimizer import build_optimizer
from mpo.training.setup import Training
from mpo.training.validation import has_stalled, is_due
from mpo.training.validation_log import Validated
from reward import Scores, load_checklist, score_answers
from reward.errors import RewardError
from tests.helpers.pages import data_of

TESTS = Path(__file__).parents[1]


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Paths of all fields that are no sections themselves."""
    for name, info in model.model_fields.items():
        sections = [
            a for a in (info.annotation, *get_args(info.annotation)) if inspect.isclass(a) and issubclass(a, BaseModel)
        ]
        if sections:
            yield from walk(sections[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


Show = Callable[[Recipe], Any]


@dataclass(frozen=True)
class Entry:
    """Another value of a field, what it changes, and other fields to be set for it to be used."""

    value: Any
    show: Show
    given: dict[str, Any] = field(default_factory=dict)


# What a recipe comes to, each by a public call.


def prompts(recipe: Recipe) -> Any:
    return read_prompt_sets(recipe.prompts)


def preferences(recipe: Recipe) -> Any:
    assert recipe.preferences is not None
    return [(p.prompt, p.chosen, p.rejected) for p in read_preferences(recipe.preferences, "image")]


def judged(recipe: Recipe) -> Any:
    return check_judge(recipe, ["a red circle on a white background"]).question_ids


def model(recipe: Recipe) -> Any:
    return check_model(recipe)


def tiling(recipe: Recipe) -> Any:
    return load_pipeline(recipe.model).vae.use_tiling


def layers(recipe: Recipe) -> Any:
    """Kinds of the layers in the pipeline's networks."""
    pipeline = load_pipeline(recipe.model)
    return [
        sorted({type(layer).__name__ for layer in part.modules()}) for part in (pipeline.unet, pipeline.text_encoder)
    ]


def where(recipe: Recipe) -> Any:
    """Whether the denoiser comes and goes."""
    return hasattr(load_pipeline(recipe.model).unet, "_hf_hook")


def sizes(recipe: Recipe) -> Any:
    return [size_of(recipe, k) for k in range(2)]


def selected(recipe: Recipe) -> Any:
    """Pairs of one prompt's four candidates in two groups, of which the second disagrees with the total."""
    groups = np.array([[0.0, 0.0], [1.0, -0.1], [2.0, 0.1], [2.0, 0.3]])
    select = recipe.select
    pairs = preferred_pairs(
        load_checklist("image"), select.strategy, np.zeros(4), groups, groups.sum(1),
        margin=select.margin, per_prompt=select.pairs_per_prompt,
    )  # fmt: skip
    return pairs.chosen.tolist(), pairs.rejected.tolist()


def stages(recipe: Recipe) -> Any:
    return stages_of(recipe)


def scores(num_pictures: int) -> Scores:
    checklist = load_checklist("image")
    return score_answers(np.random.default_rng(0).random((num_pictures, len(checklist.questions))), checklist)


def blocks(recipe: Recipe) -> Any:
    """How many of many random candidates' pairs are kept."""
    return len(Block(0, np.zeros(60, int), scores(60)).find(recipe.select, recipe.select.strategy, None))


def summarised(recipe: Recipe) -> Any:
    return summary_of(scores(2 * 12 * recipe.evaluate.num_seeds), recipe)["total"]["ci95"]


def draws(recipe: Recipe) -> Any:
    """Pair, timestep and noise of a step's draws, for a diffusion and for a flow model."""
    t = recipe.train
    drawn = []
    for scheduler in (DDPMScheduler(), FlowMatchEulerDiscreteScheduler(shift=2.0)):
        for draw in stream(t.seed, 3, 6, t.batch_size, num_draws=t.num_draws):
            noise, timestep = draw_noise(t, draw, (4, 2, 2), scheduler)
            drawn.append((draw.pair, timestep, noise.sum().item()))
    return drawn


def objective(recipe: Recipe) -> Any:
    t = recipe.train
    chosen = find_objective(t.objective, beta=t.beta, label_smoothing=t.label_smoothing)
    errors = [torch.tensor([error]) for error in (0.4, 0.8, 0.5, 0.5)]
    return chosen.loss(*errors[: 4 if chosen.needs_reference else 2]).loss.item()


def weights(recipe: Recipe) -> Any:
    return error_weights(DDPMScheduler(), torch.tensor([1, 100, 900]), recipe.train).tolist()


def optimizer(recipe: Recipe) -> Any:
    made = build_optimizer([torch.nn.Parameter(torch.zeros(2, 2))], recipe.train)
    return type(made).__name__, {k: v for k, v in made.param_groups[0].items() if k != "params"}


def lora(recipe: Recipe) -> Any:
    """Names, shapes and scale of the LoRA in two layers."""
    network = torch.nn.ModuleDict({name: torch.nn.Linear(8, 8) for name in ("to_q", "to_k")})
    family: Any = stable_diffusion
    inject_lora(network, family, recipe.train)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if "lora" in name}
    return shapes, [layer.scaling for layer in network.values() if hasattr(layer, "scaling")]


def divergence(recipe: Recipe) -> Any:
    record = {"loss": 1.0, "grad_norm": 1.0, "chosen_error": 0.5, "reference_error": 0.1}
    history = [{**record, "step": k} for k in range(20)]
    return refuse_divergence(history, recipe.train, [Draw(0, 0)], scaled=False)


def dealt_out(recipe: Recipe) -> Any:
    return micro_batch_size(recipe.train, 1)


def validated_steps(recipe: Recipe) -> Any:
    return [step for step in range(9) if is_due(recipe, step)]


def stalled(recipe: Recipe) -> Any:
    return has_stalled(recipe, [Validated(k, total, {}) for k, total in enumerate((0.0, 2.0, 1.0, 1.0))])


class Asked(Exception):  # noqa: N818
    """What a stage asks for, in place of pictures."""


def sampled(stage: Callable[[RunFolder, Recipe], Any]) -> Callable[[Recipe], Any]:
    """Samples and settings that a stage asks pictures for, on a run folder with what it reads."""

    def show(recipe: Recipe) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(folder)
            write_text(run.recipe, dump_recipe(recipe))
            for table in (run.prompts, run.heldout_prompts, run.validation_prompts):
                write_table(table, {"prompt_id": [0, 1], "prompt": ["a", "b"]}, PROMPTS)
            write_json(run.trained, {"result_step": 1, "last_step": 1, "stopped_early": False})
            try:
                sampling = stage(run, recipe)
            except Asked as asked:
                return asked.args
            samples = [sample for piece in sampling.pieces for sample in sampling.samples_of(piece)]
            return what_is_asked_for(samples, sampling.settings)

    return show


def what_is_asked_for(samples: Any, settings: Any) -> Any:
    asked = settings.num_inference_steps, settings.guidance_scale, settings.batch_size
    asked += settings.scheduler, settings.guidance_range
    return [(s.prompt, s.seed, s.file.name, s.size) for s in samples], asked


def training_of(run: RunFolder, recipe: Recipe) -> Training:
    """As much of a training as a validation that makes no pictures looks at."""
    training = object.__new__(Training)
    parts = {"run": run, "recipe": recipe, "pipeline": None, "denoiser": torch.nn.Identity(), "lockstep": False}
    for name, part in parts.items():
        object.__setattr__(training, name, part)
    return training


generated = sampled(lambda run, recipe: next(mpo.stages.generate.work(run.folder)))
evaluated = sampled(lambda run, recipe: next(mpo.stages.evaluate.work(run.folder)))
validated = sampled(lambda run, recipe: mpo.training.validation.validate(training_of(run, recipe), 0))


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation asks for pictures in vain; a hub answers with what it was asked for."""

    def make_samples(load: Any, samples: Any, settings: Any, *, description: str, lockstep: bool = False) -> None:
        raise Asked(*what_is_asked_for(samples, settings))

    monkeypatch.setattr(mpo.training.validation, "make_samples", make_samples)

    def load_dataset(path: str, **settings: Any) -> Any:
        raise OSError(f"the hub has no {path} {settings}")

    load_config = DiffusionPipeline.load_config

    def load_config_of(path: str, **settings: Any) -> Any:
        if path == HUB:
            raise OSError(f"the hub has no {path} {settings}")
        return load_config(path, **settings)

    for module in (mpo.models.loading, mpo.data.prompts, mpo.data.readers):
        monkeypatch.setattr(module, "is_offline", lambda: False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(DiffusionPipeline, "load_config", load_config_of)


HUB = "nobody/nothing"
ROWS = "FOLDER/rows.jsonl"  # prompts in two columns
OTHERS = "FOLDER/others.txt"
GIVEN = {"generate": None, "prompts.train": None, "preferences": {"path": ROWS, "layout": "pairs"}}
ON_HUB = {"generate": None, "prompts.train": None, "preferences": {"path": HUB, "layout": "pickapic"}}
VALIDATED = {
    "prompts.validation": {"path": OTHERS},
    "validation": {"interval_steps": 2, "num_inference_steps": 2, "guidance_scale": 1.0, "batch_size": 2},
}
LOGIT_NORMAL = {"train.timestep_sampling": "logit_normal"}
MIN_SNR = {"train.error_weighting": "min_snr"}


def source(name: str, given: dict[str, Any]) -> dict[str, Entry]:
    """The fields of a source of prompts."""
    rows, hub = ({**given, f"prompts.{name}": {"path": path}} for path in (ROWS, HUB))
    return {
        f"prompts.{name}.path": Entry("FOLDER/three.txt", prompts, given),
        f"prompts.{name}.column": Entry("caption", prompts, rows),
        f"prompts.{name}.split": Entry("test", prompts, hub),
        f"prompts.{name}.revision": Entry("v2", prompts, hub),
        f"prompts.{name}.limit": Entry(1, prompts, rows),
        f"prompts.{name}.shuffle_seed": Entry(5, prompts, rows),
        f"prompts.{name}.share": Entry([0.0, 0.5], prompts, rows),
    }


def sampling(section: str, show: Show, given: dict[str, Any]) -> dict[str, Entry]:
    return {
        f"{section}.num_inference_steps": Entry(3, show, given),
        f"{section}.guidance_scale": Entry(2.5, show, given),
        f"{section}.batch_size": Entry(7, show, given),
        f"{section}.scheduler": Entry("UniPCMultistepScheduler", show, given),
        f"{section}.guidance_range": Entry([0.0, 0.5], show, {**given, f"{section}.guidance_scale": 2.5}),
    }


# What shows each field; for what only a run shows, the name of the test that shows it.
FIELDS: dict[str, Entry | str] = {
    "name": "test_name_and_description_head_the_card_and_the_page",
    "description": "test_name_and_description_head_the_card_and_the_page",
    "seed": Entry(1, generated),
    "rounds": "test_a_later_round_samples_from_the_tuned_model_and_trains_on",
    "start": "test_a_later_round_samples_from_the_tuned_model_and_trains_on",
    "model.path": Entry(HUB, model),
    "model.revision": Entry("v2", model, {"model.path": HUB}),
    "model.config": "test_one_file_gives_the_same_pictures_as_the_folder",
    "model.dtype": "test_half_precisions_train_and_resume_exactly",
    "model.sizes": Entry([[32, 32], [64, 32]], generated),
    "model.vae_tiling": Entry(True, tiling),
    "model.quantization.denoiser": Entry("4bit", layers, {"model.quantization": {}}),
    "model.quantization.text_encoders": Entry("8bit", layers, {"model.quantization": {}}),
    "model.offload": Entry("networks", where),
    "model.expert": "test_an_expert_is_trained_on_the_noise_that_it_works_on",
    **source("train", {}),
    **source("heldout", {}),
    **source("validation", VALIDATED),
    "prompts.max_similarity": Entry(0.01, prompts),
    "prompts.similarity": "test_similarity_by_a_text_encoder",
    "generate.num_candidates": Entry(3, generated),
    **sampling("generate", generated, {}),
    "generate.compile": "test_a_compiled_network_samples_the_same",
    "generate.keep_latents": "test_kept_latents_are_trained_on_and_watched",
    "preferences.path": Entry("FOLDER/nothing.jsonl", preferences, GIVEN),
    "preferences.layout": Entry("folder", preferences, GIVEN),
    "preferences.split": Entry("test", preferences, ON_HUB),
    "preferences.revision": Entry("v2", preferences, ON_HUB),
    "preferences.limit": Entry(1, preferences, GIVEN),
    "judge.name": Entry("nobody", judged),
    "judge.checklist": Entry("video", judged),
    "judge.questions": Entry("all", judged),
    "judge.weight": Entry(2.0, lambda recipe: check_judge(recipe, []).weights.tolist()),
    "judge.options": Entry({"no_option": 1}, judged),
    "select.strategy": Entry("total", selected, {"select.strategy": "dominance"}),
    "select.granularity": Entry("question", blocks, {"select.strategy": "dominance"}),
    "select.margin": Entry(1.05, selected),
    "select.pairs_per_prompt": Entry(1, selected),
    "select.num_pairs": "test_too_few_pairs_for_num_pairs_is_an_error",
    "train.seed": Entry(1, draws),
    "train.objective": Entry("ipo", objective),
    "train.beta": Entry(2.0, objective),
    "train.gradient_factor": "test_levers_change_what_a_step_does_and_resume_exactly",
    "train.safeguard": "test_levers_change_what_a_step_does_and_resume_exactly",
    "train.label_smoothing": Entry(0.1, objective),
    "train.sft_weight": "test_each_objective_trains",
    "train.timestep_sampling": Entry("logit_normal", draws),
    "train.timestep_mean": Entry(1.0, draws, LOGIT_NORMAL),
    "train.timestep_std": Entry(2.0, draws, LOGIT_NORMAL),
    "train.timestep_range": Entry([0.5, 1.0], draws),
    "train.timestep_shift": Entry(3.0, draws),
    "train.num_draws": Entry(1, draws),
    "train.error_weighting": Entry("min_snr", weights),
    "train.snr_gamma": Entry(1.0, weights, MIN_SNR),
    "train.learning_rate": Entry(2e-3, optimizer),
    "train.num_steps": "test_steps_rates_and_clipping_are_those_of_the_recipe",
    "train.warmup_steps": "test_steps_rates_and_clipping_are_those_of_the_recipe",
    "train.lr_schedule": "test_steps_rates_and_clipping_are_those_of_the_recipe",
    "train.batch_size": Entry(6, draws),
    "train.micro_batch_size": Entry(1, dealt_out),
    "train.rank": Entry(2, lora),
    "train.alpha": Entry(2.0, lora),
    "train.lora_targets": Entry(["to_q"], lora),
    "train.optimizer": Entry("NAdam", optimizer),
    "train.optimizer_options": Entry({"eps": 1e-6}, optimizer),
    "train.weight_decay": Entry(0.5, optimizer),
    "train.max_grad_norm": "test_steps_rates_and_clipping_are_those_of_the_recipe",
    "train.max_error_ratio": Entry(6.0, divergence),
    "train.ema_decay": "test_the_mean_of_the_lora_is_an_exponential_one",
    "train.distilled_guidance": Entry(3.5, model),
    "train.mixed_precision": "test_half_precisions_train_and_resume_exactly",
    "train.gradient_checkpointing": "test_gradient_checkpointing_keeps_less",
    "train.attention": "test_xformers_is_used_or_named",
    "train.compile": "test_a_compiled_network_trains_to_the_same",
    "train.reference_cache": "test_kept_reference_errors_are_the_references",
    "train.checkpoint_interval_steps": "test_the_mean_of_the_lora_is_an_exponential_one",
    "validation.interval_steps": Entry(3, validated_steps, VALIDATED),
    "validation.seed": Entry(5, validated, VALIDATED),
    "validation.num_seeds": Entry(3, validated, VALIDATED),
    **sampling("validation", validated, VALIDATED),
    "validation.patience": Entry(2, stalled, VALIDATED),
    **{
        f"tracking.{name}": "test_training_writes_tensorboard_and_one_wandb_run_that_a_resumed_run_continues"
        for name in ("trackers", "project", "entity", "name", "tags", "run_id")
    },
    "evaluate.seed": Entry(5, evaluated),
    "evaluate.num_seeds": Entry(3, evaluated),
    **sampling("evaluate", evaluated, {}),
    **{
        f"evaluate.judges.{name}": "test_a_recipe_with_two_judges_runs_whole"
        for name in ("name", "checklist", "questions", "options", "weight")
    },
    "evaluate.compile": "test_a_compiled_network_samples_the_same",
    "evaluate.num_bootstrap": Entry(50, summarised),
}


def changed(fields: dict, changes: dict[str, Any], folder: Path) -> dict:
    """The recipe with values at dotted places; a source that was a path alone becomes a section, FOLDER the folder."""
    fields = copy.deepcopy(fields)
    for place, value in changes.items():
        *sections, last = place.split(".")
        target = fields
        for section in sections:
            if isinstance(target[section], str):
                target[section] = {"path": target[section]}
            target = target[section]
        target[last] = value
    return yaml.safe_load(yaml.safe_dump(fields).replace("FOLDER", str(folder)))


def outcome(show: Show, fields: dict) -> Any:
    """What it comes to; where it is refused, in which words."""
    try:
        return show(parse_recipe(fields, source="small"))
    except (MpoError, RewardError) as error:
        return str(error)


def test_every_field_has_an_entry():
    assert sorted(FIELDS) == sorted(walk(Recipe))


@pytest.mark.parametrize("name", [name for name, entry in FIELDS.items() if isinstance(entry, Entry)])
def test_another_value_changes_something_or_is_refused(name, fields, tmp_path):
    entry = FIELDS[name]
    assert isinstance(entry, Entry)
    rows = [
        {"prompt": f"a {k}", "caption": f"b {k}", "chosen": f"{k}.png", "rejected": f"other {k}.png"} for k in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (tmp_path / "others.txt").write_text("a lone tree\na lone stone", "utf-8")
    (tmp_path / "three.txt").write_text("one\ntwo\nthree", "utf-8")
    given = changed(fields, entry.given, tmp_path)
    before = outcome(entry.show, given)
    assert outcome(entry.show, given) == before
    assert outcome(entry.show, changed(given, {name: entry.value}, tmp_path)) != before


def test_the_tests_that_show_the_others_are_there_and_name_the_field():
    sources = {}
    for file in TESTS.rglob("test_*.py"):
        text = file.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                start = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
                sources[node.name] = "\n".join(text.splitlines()[start : node.end_lineno])
    for name, test in FIELDS.items():
        if isinstance(test, str):
            assert test in sources, f"{name}: no test {test}"
            assert name.split(".")[-1] in sources[test], f"{name}: {test} does not name it"


def test_name_and_description_head_the_card_and_the_page(finished):
    recipe = read_recipe(finished / "recipe.yaml")
    assert f"# {recipe.name}\n" in (finished / "lora" / "README.md").read_text("utf-8")
    page = data_of((finished / "evaluation" / "report.html").read_text("utf-8"))
    assert (page["name"], page["description"]) == (recipe.name, recipe.description)


def test_steps_rates_and_clipping_are_those_of_the_recipe(finished, fields, tmp_path):
    """Three steps of training: a rate that falls in a line, and a first moment of a tenth of the clipped gradient."""
    fields["train"] |= {"num_steps": 3, "warmup_steps": 1, "lr_schedule": "linear", "max_grad_norm": 1e-3}
    fields["train"]["checkpoint_interval_steps"] = 1
    run = RunFolder(tmp_path / "run")
    made = shutil.ignore_patterns("checkpoints", "train*.json*", "lora", "evaluation")
    shutil.copytree(finished, run.folder, ignore=made)
    run.recipe.write_text(dump_recipe(parse_recipe(fields, source="small")), "utf-8")
    train(run.folder)
    log = [json.loads(line) for line in run.training_log.read_text("utf-8").splitlines()]
    rate = fields["train"]["learning_rate"]
    assert [entry["learning_rate"] for entry in log] == pytest.approx([0.0, rate, rate / 2])
    moments = load_file(run.checkpoints / "step-000001" / "optimizer.safetensors")
    moment = torch.cat([value.flatten() for name, value in moments.items() if name.endswith(".exp_avg")])
    assert log[0]["grad_norm"] > 1e-3
    assert moment.norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-3)
