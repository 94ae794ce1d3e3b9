import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mpo.data.prompts import read_prompts
from mpo.embedded.oracle import DEFECTS, WEIGHTS, Oracle, parse_caption, read_pictures
from mpo.embedded.scenes import Defects, Group, Scene, caption, paint, sample_scene
from mpo.recipe import PromptSource, load_recipe
from mpo.scoring import check_judge
from reward import JudgeError
from reward.judging import Judging, load_reward

ROOT = Path(__file__).parents[3]
NUM_SCENES = 64


@pytest.fixture(scope="module")
def oracle():
    return Oracle()


@pytest.fixture(scope="module")
def scenes():
    """Of no training and no prompt file: seed 77."""
    rng = np.random.default_rng(77)
    return [sample_scene(rng) for _ in range(NUM_SCENES)]


def painted(scenes: list[Scene], defects: Defects) -> list[Image.Image]:
    """The same scenes with the same chance, whatever the defects."""
    return [paint(scene, defects, np.random.default_rng((78, k))) for k, scene in enumerate(scenes)]


def numbers_of(oracle: Oracle, pictures: list[Image.Image], scenes: list[Scene]) -> np.ndarray:
    return oracle.answer(pictures, [caption(scene) for scene in scenes], oracle.checklist.questions)


@pytest.mark.parametrize("page", ["docs/judges.md", "mpo/embedded/oracle/README.md"])
def test_a_recipe_names_it_and_its_total_is_content_plus_mean_freedom_from_defects(oracle, scenes, page):
    (block,) = re.findall(
        r"```yaml\n(evaluate:\n  judges:\n    - name: mpo.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL
    )
    recipe = yaml.safe_load(block)
    pictures, prompts = painted(scenes[:8], Defects(blur_sigma=2)), [caption(scene) for scene in scenes[:8]]
    scores = load_reward([Judging(**fields) for fields in recipe["evaluate"]["judges"]]).score(pictures, prompts)
    numbers = numbers_of(oracle, pictures, scenes[:8])
    np.testing.assert_allclose(scores.p_yes, numbers, atol=1e-5)
    np.testing.assert_allclose(scores.total, numbers[:, 0] + numbers[:, 1:].mean(axis=1), atol=1e-5)
    assert scores.checklist.dimensions == ("oracle_content", *(f"oracle_no_{defect}" for defect in DEFECTS))


def test_it_reads_what_drawings_show(oracle, scenes):
    pixels = np.stack([np.asarray(picture) for picture in painted(scenes, Defects())])
    found = read_pictures(oracle.reader, pixels)
    claims = [found.claims(row, scene) for row, scene in enumerate(scenes)]
    for kind, least in (
        ("shape", 0.95),
        ("colour", 0.95),
        ("objects", 0.93),
        ("count", 0.95),
        ("place", 0.95),
        ("position", 0.95),
    ):
        right = [p >= 0.5 for each in claims for name, p in each.items() if name.startswith(kind)]
        assert np.mean(right) >= least, kind


def test_a_picture_bears_out_its_own_caption_above_one_with_one_thing_changed(oracle, scenes):
    pictures = painted(scenes, Defects())
    own = numbers_of(oracle, pictures, scenes)[:, 0]
    changed = {
        "shape": [replace(s.groups[0], shape="heart" if s.groups[0].shape != "heart" else "ring") for s in scenes],
        "colour": [replace(s.groups[0], colour="red" if s.groups[0].colour != "red" else "blue") for s in scenes],
        "count": [replace(s.groups[0], count=2 if s.groups[0].count == 1 else 1) for s in scenes],
    }
    for what, groups in changed.items():
        others = [
            replace(s, groups=(group, *s.groups[1:]), position=s.position if group.count == 1 else None)
            for s, group in zip(scenes, groups, strict=True)
        ]
        assert (own > numbers_of(oracle, pictures, others)[:, 0]).mean() >= 0.95, what
    elsewhere = [replace(s, place="sea" if s.place != "sea" else "desert") for s in scenes]
    assert (own > numbers_of(oracle, pictures, elsewhere)[:, 0]).mean() >= 0.97


AMOUNTS = {
    "blur": [Defects(blur_sigma=s) for s in (0, 1.5, 3)],
    "gloom": [Defects(gloom=s) for s in (0, 0.4, 0.8)],
    "wash": [Defects(wash=s) for s in (0, 0.4, 0.8)],
    "noise": [Defects(noise_sigma=s) for s in (0, 0.1, 0.2)],
    "clutter": [Defects(num_fragments=n) for n in (0, 12, 25)],
    "cut_off": [Defects(cut_off=s) for s in (0, 0.3, 0.6)],
    "shrink": [Defects(shrink=s) for s in (1, 0.7, 0.4)],
    "blocks": [Defects(block=n) for n in (1, 4, 8)],
    "flat": [Defects(flat=flat) for flat in (False, True)],
}  # each from none to the most that scenes have


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_number_falls_as_its_defect_grows(oracle, scenes, defect):
    column = 1 + DEFECTS.index(defect)
    few = scenes[:24]
    rows = [numbers_of(oracle, painted(few, defects), few) for defects in AMOUNTS[defect]]
    means = [row[:, column].mean() for row in rows]
    assert (np.diff(means) < 0).all(), means
    assert means[0] > -0.05
    assert means[-1] < (-0.5 if defect == "blocks" else -0.65)
    assert (rows[0][:, column] > rows[-1][:, column]).mean() >= 0.95
    loss = (rows[-1] - rows[0]).mean(axis=0)[1:]
    if defect != "blocks":  # which are read as half blur, as the card says
        assert loss.argmin() == column - 1, "no other defect is seen to grow as much"
        assert loss[column - 1] < 1.5 * np.delete(loss, column - 1).min()


def test_every_caption_of_the_prompt_files_is_read_back():
    for name in ("train", "heldout"):
        for prompt in read_prompts(PromptSource(path=f"prompts/shapes-{name}.txt"), field="prompts"):
            assert caption(parse_caption(prompt)) == prompt
    scene = Scene((Group("ring", "orange"), Group("star", "white")), "night sky")
    assert parse_caption("An orange ring and  a white star in the night sky.") == scene


@pytest.mark.parametrize(
    "prompt", ["a blue ring at the top on an orange background", "One blue ring at the top on the orange background"]
)
def test_articles_are_free(prompt):
    assert parse_caption(prompt) == Scene((Group("ring", "blue"),), "orange", "top")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a cat in a meadow",
        "a red circle",
        "a red circle moves left in a meadow",
        "four red circles in a meadow",
        "a red circle and in a meadow",
        "three red circles and a blue star in a meadow",
        "two red circles on the left in a meadow",  # a position was taught of single objects
    ],
)
def test_another_prompt_is_refused(oracle, prompt):
    with pytest.raises(JudgeError, match="cannot read prompt"):
        oracle.require_prompts([prompt], "image")
    with pytest.raises(JudgeError, match="cannot read prompt"):
        oracle.answer([Image.new("RGB", (64, 64))], [prompt], oracle.checklist.questions)


def test_the_quickstart_asks_it_and_is_told_of_a_prompt_that_it_cannot_read_before_anything_is_made():
    """The judge that chooses reads "a red circle", too; the oracle needs a place."""
    recipe = load_recipe("quickstart")
    assert [judging.name for judging in recipe.evaluate.judges] == ["mpo.embedded.oracle:Oracle"]
    check_judge(recipe, ["a red circle in a meadow"])
    with pytest.raises(JudgeError, match=r"cannot read prompt 'a red circle';.*--set evaluate\.judges=\[\]"):
        check_judge(recipe, ["a red circle in a meadow", "a red circle"])
    check_judge(load_recipe("quickstart", ["evaluate.judges=[]"]), ["a red circle"])


def test_a_picture_of_another_size_is_refused(oracle):
    with pytest.raises(JudgeError, match="this one has 32x64"):
        oracle.answer([Image.new("RGB", (32, 64))], ["a red circle in a meadow"], oracle.checklist.questions)


def test_weights_that_are_missing_or_of_another_network_are_one_line(tmp_path):
    with pytest.raises(JudgeError, match=r"train_oracle") as caught:
        Oracle(str(tmp_path / "none.safetensors"))
    assert "\n" not in str(caught.value)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(JudgeError, match=r"broken.safetensors.*train_oracle"):
        Oracle(str(tmp_path / "broken.safetensors"))


def test_the_shipped_weights_are_small_and_documented():
    assert WEIGHTS.stat().st_size <= 2e6
    assert {p.suffix for p in WEIGHTS.parent.iterdir()} == {".safetensors", ".md"}
    assert "mpo.embedded.train_oracle" in (WEIGHTS.parent / "README.md").read_text("utf-8")


def test_the_fingerprint_is_of_the_weights(oracle):
    assert oracle.fingerprint == Oracle(batch_size=7).fingerprint
    changed = Oracle()
    changed.reader.sharpness.data[0] += 0.01
    assert changed.fingerprint != oracle.fingerprint
