"""What may import what, what lies at the top of mpo/, and that every module has its tests."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import CHECKED

ROOT = Path(__file__).parents[1]

# The floors of mpo/, top to bottom. A module imports from its own floor and from those below; no stage imports a stage.
FLOORS = (
    ("cli",),
    ("first_steps",),
    ("study",),
    ("planning",),
    ("rounds",),
    ("run", "take_over"),
    ("dependencies",),
    ("clusters",),
    ("stages",),
    ("pages",),
    ("export",),
    ("training",),
    ("votes",),
    ("comparison",),
    ("data",),
    ("models",),
    ("scoring",),
    ("recipe",),
    ("sizes",),
    ("run_folder",),
    ("runtime",),
    ("embedded",),
)
ROOM_FILES = {"__init__.py", "model_costs.yaml"}  # at the top of mpo/, beside the floors
# Modules without a test file of their own, and where their promises are tested.
TESTED_ELSEWHERE = {
    "mpo/dependencies.py": "tests/faults/test_damage.py: what becomes of a run that is damaged or changed",
    "mpo/first_steps/draft.py": "tests/mpo/first_steps/test_new_recipe.py: how recipes are changed",
    "mpo/first_steps/pricing.py": "tests/mpo/first_steps/test_commands.py: what `mpo init` prints",
    **dict.fromkeys(
        [f"mpo/models/counting/{name}.py" for name in ("gpu_kernels", "inputs", "measuring", "parts")],
        "tests/mpo/models/test_costs.py: entries are counted by all of them",
    ),
    "mpo/planning/judges.py": "tests/mpo/models/test_costs.py: a judge is counted from its options",
    "mpo/planning/steps.py": "tests/mpo/planning/test_plan.py: what the plan says by hand",
    "mpo/planning/words.py": "tests/mpo/planning/test_plan.py and test_fit.py: pages and heads of recipes",
    "mpo/run_folder/manifest.py": "tests/faults/test_damage.py: what manifests are for",
    "mpo/training/checkpoint_files.py": "tests/faults/test_damage.py and tests/mpo/training/test_checkpoints.py",
    "mpo/training/forward.py": "tests/mpo/stages/test_train.py: a step by hand",
    "mpo/training/validation_log.py": "tests/mpo/training/test_validation.py: what validation wrote",
    "mpo/training/setup.py": "tests/mpo/stages/test_train.py: every setting of training",
    **dict.fromkeys(
        [f"reward/cli/{name}.py" for name in ("__main__", "options", "output", "people", "scoring", "serving")],
        "tests/reward/cli/test_commands.py: every command",
    ),
    "reward/reward.py": "tests/reward/test_vision_reward.py and test_joint.py: both are rewards",
    "reward/judges/modes.py": "tests/reward/judges/test_vlm.py and test_cogvlm2.py: both choose by it",
    "mpo/export/original_layout.py": "tests/mpo/export/test_merged.py: read by diffusers' own reader of that layout",
    "mpo/pages/figures.py": "tests/mpo/pages/test_study.py: the same bytes for the same data",
    "mpo/votes/answers.py": "tests/mpo/votes/test_interchange.py and test_label_studio.py: both read answers by it",
    "mpo/votes/comma_separated.py": "tests/mpo/votes/test_interchange.py: out and in again",
    "mpo/votes/describe.py": "tests/mpo/votes/test_results.py: the words have what the results have",
    "mpo/stages/report.py": "tests/mpo/pages/test_report.py: the stage only writes that page",
    **dict.fromkeys(
        [
            f"mpo/models/families/{name}.py"
            for name in [
                *("chroma", "cogview4", "flux", "hidream_image", "lumina2", "qwen_image_21", "sana"),
                *("stable_diffusion", "stable_diffusion_3"),
            ]
        ],
        "tests/mpo/models/families/test_families.py walks over every family",
    ),
    **dict.fromkeys(
        [f"mpo/models/families/{name}.py" for name in ("animatediff", "cogvideox", "hunyuan_video", "ltx", "wan")],
        "tests/mpo/models/families/test_video_families.py walks over every family of clips",
    ),
    "reward/errors.py": "holds no code but names",
    "reward/judges/measures.py": "tests/reward/judges/test_measured.py: the judge asks each measure",
    "reward/judges/packing.py": "tests/reward/judges/test_vlm.py: packed against one by one",
    "reward/judges/yes_no.py": "tests/reward/judges/test_vlm.py: whose answers it reads",
}  # fmt: skip
# Tests of more than a module, and what they are of.
TESTS_OF_NO_MODULE = {
    "tests/reward/cli/test_commands.py": "every command of `reward`",
    "tests/faults/test_damage.py": "runs that are damaged or changed",
    "tests/mpo/test_recipe_fields.py": "every field of a recipe",
    "tests/mpo/models/families/test_protocol.py": "every family",
    "tests/mpo/pages/test_browser.py": "the front end in mpo/pages/web, in Chromium",
    "tests/mpo/embedded/test_model.py": "the weights in mpo/embedded/model",
    "tests/mpo/models/families/test_families.py": "every family of pictures",
    "tests/mpo/models/families/test_new_family_guide.py": "docs/new-family.md",
    "tests/mpo/models/families/test_video_families.py": "every family of clips",
    "tests/mpo/embedded/test_clip_model.py": "the weights in mpo/embedded/clip_model",
    "tests/reward/judges/test_vllm.py": "the server judge against a real vLLM",
    "tests/mpo/export/test_comfyui_program.py": "the files for ComfyUI through a real ComfyUI",
}
OPTIONAL = {
    "openai",
    "prometheus_client",
    "ray",
    "starlette",
    "submitit",
    "uvicorn",
}  # what extras install, imported by the module that needs it
BY_NAME = {"bitsandbytes", "deepspeed"}  # asked for by name, and named where they are missing


def files(*packages: str) -> list[str]:
    """Paths of the Python files of packages."""
    return [p.relative_to(ROOT).as_posix() for package in packages for p in sorted((ROOT / package).rglob("*.py"))]


def modules(*packages: str) -> list[str]:
    """The same, but for those that make a folder a package."""
    return [path for path in files(*packages) if not path.endswith("/__init__.py")]


def imports(path: str) -> Iterator[str]:
    """Dotted names that a file imports anywhere, within functions too: packages, modules or names in them."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor_of(name: str) -> int | None:
    """Of a dotted name within mpo; None for what mpo/__init__.py defines, which all may have."""
    part = name.split(".")[1] if "." in name else ""
    return next((k for k, floor in enumerate(FLOORS) if part in floor), None)


def stage_of(name: str) -> str | None:
    return name.split(".")[2] if name.startswith("mpo.stages.") else None


@pytest.mark.parametrize("path", [path for path in files("mpo") if path != "mpo/__init__.py"])
def test_imports_go_down_only(path):
    importer = path.removesuffix(".py").replace("/", ".")
    floor = floor_of(importer)
    assert floor is not None, f"{path} lies on no floor; give its name a place in FLOORS, or move it into a room"
    for imported in imports(path):
        if not imported.startswith("mpo."):
            continue
        below = floor_of(imported)
        assert below is None or below >= floor, f"{importer} imports {imported}, which lies on a floor above it"
        other = stage_of(imported)
        assert other is None or stage_of(importer) in (None, other), f"stage {importer} imports stage {imported}"


def test_packages_import_one_way():
    """Recipes -> mpo -> reward, and reward needs no diffusion library."""
    forbidden = {"reward": {"mpo", "benchmarks", "tests", "diffusers"}, "mpo": {"benchmarks", "tests"}}
    for package, others in forbidden.items():
        for path in files(package):
            for imported in imports(path):
                assert imported.split(".")[0] not in others, f"{path} imports {imported}"


def test_the_top_of_mpo_holds_the_floors_and_no_more():
    floors = {name for floor in FLOORS for name in floor}
    entries = {p.name for p in (ROOT / "mpo").iterdir() if p.name not in ("__pycache__", ".DS_Store")}
    strange = {entry for entry in entries - ROOM_FILES if entry.removesuffix(".py") not in floors}
    assert not strange, f"mpo/ holds {', '.join(sorted(strange))} at its top, which the layout does not name"


@pytest.mark.parametrize("path", modules("mpo", "reward"))
def test_every_module_has_its_test_file(path):
    folder, _, name = path.rpartition("/")
    test = f"tests/{folder}/test_{name}"
    if path in TESTED_ELSEWHERE:
        assert not (ROOT / test).exists(), f"{path} has {test}; take it off TESTED_ELSEWHERE"
    else:
        assert (ROOT / test).is_file(), f"{path} has no {test}, and TESTED_ELSEWHERE gives no reason"


@pytest.mark.parametrize("path", [path for path in modules("tests/mpo", "tests/reward") if "/test_" in path])
def test_every_test_file_has_its_module(path):
    module = path.removeprefix("tests/").replace("/test_", "/")
    assert (ROOT / module).is_file() != (path in TESTS_OF_NO_MODULE), f"{path} is of no module, such as {module}"


@pytest.mark.parametrize("path", [path for path in modules("tests") if "/test_" in path])
def test_no_test_file_lends_to_another(path):
    """What two of them use stands in a helper module."""
    lent = [name for name in imports(path) if re.match(r"tests\..*\btest_\w+\.", name)]
    assert not lent, f"{path} imports {', '.join(lent)}; move what it needs to tests/helpers"


def test_every_import_is_declared():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    packages = re.findall(r'^    "([\w-]+)', text.split("\ndependencies = [")[1].split("\n]")[0], re.MULTILINE)
    distributions = {
        "opencv-python-headless": "cv2",
        "pillow": "PIL",
        "pyyaml": "yaml",
        "scikit-image": "skimage",
        "scikit-learn": "sklearn",
    }
    declared = {str(distributions.get(name, name)).replace("-", "_") for name in packages}
    own = {"mpo", "reward", "tokenizers"}  # tokenizers comes with transformers, whose tokenizers it builds
    for path in files("mpo", "reward"):
        for imported in imports(path):
            name = imported.split(".")[0]
            known = name in sys.stdlib_module_names or name in declared | own | OPTIONAL | BY_NAME
            assert known, f"{path} imports {imported}, which pyproject.toml does not declare"


def test_a_wrong_shape_fails_in_the_tests():
    """So that annotations are what they say: tests/__init__.py lets every call check them."""
    import torch
    from jaxtyping import TypeCheckError

    from mpo.models.families import masked

    assert masked(torch.zeros(2, 3, 4), None)["encoder_hidden_states_mask"].shape == (2, 3)
    with pytest.raises(TypeCheckError, match="embeddings"):
        masked(torch.zeros(2, 3), None)
    shaped = [path for path in modules("mpo", "reward") if "jaxtyping" in set(map(first_part, imports(path)))]
    assert len(shaped) > 40
    assert {path.removesuffix(".py").replace("/", ".") for path in shaped} <= set(CHECKED)


def first_part(name: str) -> str:
    return name.split(".")[0]
