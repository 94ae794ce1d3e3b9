from pathlib import Path
from typing import Any

import pytest
import torch

from mpo import MpoError
from mpo.dependencies import examine
from mpo.models.families import denoiser_of
from mpo.models.loading import load_pipeline
from mpo.models.lora import load_with_lora
from mpo.models.offloading import Blocks, blocks_of, check_offloading
from mpo.recipe import Model, parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from tests.helpers.gradients import ONE_EACH, lora_gradient
from tests.helpers.one_file import picture
from tests.helpers.recipes import TRAIN_PROMPTS, small_fields, with_validation
from tests.helpers.video_pipelines import build_video


def bytes_held(denoiser: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for name, p in denoiser.named_parameters() if "lora_" not in name)


@pytest.mark.parametrize("name", [name for name in ONE_EACH if name != "animatediff"])
def test_one_block_at_a_time_gives_the_same_gradient(name):
    """On the family's own layers, with gradient checkpointing: a weight that is away would be empty. 10 s together."""
    whole, _ = lora_gradient(name, checkpointing=True)
    found, pipeline = lora_gradient(name, after=lambda p: Blocks(denoiser_of(p), "cpu"), checkpointing=True)
    torch.testing.assert_close(found, whole, rtol=0, atol=0)
    denoiser = denoiser_of(pipeline)
    blocks = [bytes_held(block) for block in blocks_of(denoiser)]
    assert [held > 0 for held in blocks].count(True) == 1


def test_without_checkpointing_the_gradient_is_the_same_too():
    """Autograd keeps what it needs of each block, so nothing is saved, but nothing is wrong."""
    whole, _ = lora_gradient("stable_diffusion_xl")
    found, _ = lora_gradient("stable_diffusion_xl", after=lambda p: Blocks(denoiser_of(p), "cpu"))
    torch.testing.assert_close(found, whole, rtol=0, atol=0)


def test_a_network_without_named_blocks_is_refused():
    with pytest.raises(MpoError, match=r"model\.offload='blocks': UNetMotionModel does not say .* use 'networks'"):
        check_offloading(Model(path="x", offload="blocks"), denoiser_of(build_video("animatediff")))


def test_networks_come_when_they_are_called(model_folder):
    """By diffusers' hooks, which a device that is the machine's own lets run as well."""
    there, away = (load_pipeline(Model(path=str(model_folder), offload=how)) for how in (None, "networks"))
    hooked = [[hasattr(part, "_hf_hook") for part in (p.unet, p.text_encoder, p.vae)] for p in (there, away)]
    assert hooked == [[False] * 3, [True] * 3]
    assert torch.equal(picture(there, TRAIN_PROMPTS[0]), picture(away, TRAIN_PROMPTS[0]))


def made_with(offload: str | None, model_folder: Path, folder: Path) -> RunFolder:
    folder.mkdir()
    fields = with_validation(small_fields(model_folder, folder), folder)
    fields["model"]["offload"] = offload
    fields["train"] |= {"gradient_checkpointing": True, "ema_decay": 0.9, "num_steps": 2, "batch_size": 2}
    fields["generate"]["num_candidates"] = 2
    for section in ("validation", "evaluate"):
        fields[section]["num_seeds"] = 1
    run_recipe(parse_recipe(fields, source="small"), folder / "run")
    return RunFolder(folder / "run")


@pytest.fixture(scope="module")
def there(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made_with(None, model_folder, tmp_path_factory.mktemp("there") / "base")


@pytest.mark.parametrize("offload", [pytest.param("networks", marks=pytest.mark.slow), "blocks"])
def test_a_run_gives_the_same_bytes(offload, there, model_folder, tmp_path):
    """From candidates to the exported LoRA, with validation between the steps. Seconds: every stage that loads a model. "blocks" does all that "networks" does."""
    away = made_with(offload, model_folder, tmp_path / "away")
    made: list[dict[str, Any]] = []
    for run in (there, away):
        files = [*run.candidates.rglob("*.png"), *run.checkpoints.rglob("*.safetensors"), *run.samples.rglob("*.png")]
        files += [*run.encoded.iterdir(), *run.lora.rglob("*.safetensors"), *run.lora.rglob("*.png")]
        made.append({file.relative_to(run.folder).as_posix(): sha256(file) for file in files})
    assert made[0] == made[1]
    # Where weights wait is no reason to make anything again.
    recipe = read_recipe(away.recipe)
    back = recipe.model_copy(update={"model": recipe.model.model_copy(update={"offload": None})})
    assert examine(away, back, "train").state == examine(away, back, "generate").state == "done"


def test_a_run_goes_on_on_a_smaller_gpu(fields, tmp_path):
    """The same folder with another `model.offload`: nothing is made again, and what comes is made so."""
    fields["generate"]["num_candidates"], fields["train"]["gradient_checkpointing"] = 2, True
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=("generate",))
    run = RunFolder(tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in run.candidates.rglob("*.png")}
    fields["model"]["offload"] = "blocks"
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=("generate", "score"))
    assert read_recipe(run.recipe).model.offload == "blocks"
    assert {file: file.stat().st_mtime_ns for file in run.candidates.rglob("*.png")} == before
    fields["model"]["quantization"] = {"text_encoders": "4bit"}
    with pytest.raises(MpoError, match="holds a run of another recipe"):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=("generate",))


def test_sampling_holds_one_block(model_folder, fields):
    fields["model"]["offload"] = "blocks"
    fields["train"]["gradient_checkpointing"] = True
    pipeline = load_with_lora(parse_recipe(fields, source="small"), None)
    whole = load_pipeline(Model(path=str(model_folder)))
    pictures = [picture(each, TRAIN_PROMPTS[0]) for each in (whole, pipeline)]
    assert torch.equal(*pictures)
    kept = bytes_held(pipeline.unet) / bytes_held(whole.unet)
    largest = max(map(bytes_held, blocks_of(whole.unet)))
    outside = bytes_held(whole.unet) - sum(map(bytes_held, blocks_of(whole.unet)))
    assert kept <= (outside + largest) / bytes_held(whole.unet) < 0.6


def test_settings_that_cannot_go_together_are_refused(fields):
    fields["model"] |= {"offload": "blocks"}
    with pytest.raises(MpoError, match=r"model\.offload='blocks' needs train\.gradient_checkpointing=true"):
        parse_recipe(fields, source="small")
    fields["model"] |= {"quantization": {"denoiser": "4bit"}}
    with pytest.raises(MpoError, match="offload='blocks' moves whole weights"):
        parse_recipe(fields, source="small")
