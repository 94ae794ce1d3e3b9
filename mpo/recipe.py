"""A recipe: every number of an alignment run, typed, frozen, on one page of YAML."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from mpo import MpoError
from mpo.run_folder.paths import last_round
from mpo.sizes import Size, parse_size, size_fields
from reward.errors import did_you_mean
from reward.judging import Judging
from reward.settings import parse_setting, read_yaml, write_yaml

# What names may be, and that in words.
RUN_NAME = r"^[a-z0-9][a-z0-9.-]*$"
WANDB_NAME = r"^[^/\\#?%:]{1,128}$"  # wandb refuses the others in names and ids
PATTERNS = {
    RUN_NAME: "use small letters, digits, dots and dashes",
    WANDB_NAME: "use up to 128 characters, none of / \\ # ? % :",
}

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
# One judge, or a list of judges, each of which adds its dimensions.
Judges = Annotated[
    tuple[Judging, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, Mapping) else _tuples(value)),
    PlainSerializer(lambda judges: one_or_all([judging.model_dump(mode="json") for judging in judges])),
]
SizeFields = Annotated[Size, PlainValidator(parse_size), PlainSerializer(size_fields)]  # a list in YAML


class RecipeError(MpoError):
    """A recipe or a setting that cannot be used."""


def one_or_all(entries: list[Any]) -> Any:
    """A single entry as YAML has it: without a list around it."""
    return entries[0] if len(entries) == 1 else entries


class Section(BaseModel):
    """Frozen; unknown keys refused; no silent conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def refuse_unused(settings: Sequence[tuple[Any, str, str]]) -> None:
    """Settings as (is it given, its name, what alone uses it). Raises ValueError for the first that is given."""
    for given, name, needed in settings:
        if given:
            raise ValueError(f"{name} is used by {needed} alone; set that, or remove {name}")


# Tables that are read from a file's path: they have no splits and no revisions.
TABLE_FILES = (".jsonl", ".csv", ".parquet")


def _refuse_in_files(source: Any, *, is_shipped: bool = False) -> None:
    """Raises ValueError if settings of data sets are given for a file. is_shipped: whether it is named without its suffix."""
    is_file = is_shipped or source.path.endswith((".txt", *TABLE_FILES))
    refuse_unused([(is_file and getattr(source, name), name, "a path to a data set") for name in ("split", "revision")])


def _tuples(value: Any) -> Any:
    """YAML has lists where a frozen record has tuples."""
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


class Quantization(Section):
    """Weights in fewer bits, by bitsandbytes: of linear layers alone, about a half or a quarter of bfloat16's memory."""

    # the network that is tuned; the LoRA on it stays float32. None = whole
    denoiser: Literal["8bit", "4bit"] | None = None
    text_encoders: Literal["8bit", "4bit"] | None = None  # None = whole


class Model(Section):
    """The diffusion model that is tuned."""

    path: str  # "embedded", "embedded-video", a folder, a hub id, or one .safetensors file
    # one file only: a diffusers pipeline's folder or hub id, for the configuration and for parts that the file lacks;
    # None = the hub id that diffusers recognizes in the file
    config: str | None = None
    revision: str | None = None  # of the hub id; None = the hub's default branch
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of the weights as loaded
    # [width, height] in pixels, of clips [width, height, frames, frames a second]; None = the pipeline's own size
    sizes: tuple[SizeFields, ...] | None = None
    vae_tiling: bool = False  # large pictures and clips go through the autoencoder in tiles: less memory, almost equal
    quantization: Quantization = Field(default_factory=Quantization)  # of frozen weights; the LoRA fits the whole model
    # what waits in the machine's memory: each network while another runs, or of the denoiser each block, too; the
    # same result, slower. None = all is on the GPU
    offload: Literal["networks", "blocks"] | None = None

    # Of a model with a network for high noise and one for low noise, such as Wan 2.2 A14B: the one that is tuned;
    # None = the model has one network
    expert: Literal["high", "low"] | None = None

    _sequences = field_validator("sizes", mode="before")(_tuples)

    @property
    def unquantized(self) -> "Model":
        """With all weights whole."""
        return self.model_copy(update={"quantization": Quantization()})

    @property
    def is_one_file(self) -> bool:
        """Whether all weights are in one file, in the layout of the model's authors."""
        return self.path.endswith(".safetensors")

    @field_validator("path")
    @classmethod
    def _no_pickle(cls, value: str) -> str:
        if value.endswith((".ckpt", ".pt", ".pth", ".bin", ".pkl")):
            raise ValueError("a pickle can run any code when it is read; convert it to .safetensors first")
        return value

    @model_validator(mode="after")
    def _blocks_are_whole(self) -> "Model":
        if self.offload == "blocks" and self.quantization.denoiser:
            raise ValueError(
                f"offload='blocks' moves whole weights, and quantization.denoiser={self.quantization.denoiser!r} has none; set offload to 'networks', or quantization.denoiser to null"
            )
        return self

    @model_validator(mode="after")
    def _config_is_used(self) -> "Model":
        refuse_unused([(self.config and not self.is_one_file, "config", "a path to one .safetensors file")])
        return self

    @field_validator("sizes")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("give at least one size, each once, or null")
        return value


class PromptSource(Section):
    """Prompts in a file, in a data set of the hub, or of a shipped set such as `partiprompts` (docs/training.md)."""

    path: str  # a shipped set's name, .txt (a prompt a line), .jsonl, .csv, .parquet, a `datasets` folder, or a hub id
    column: str = "prompt"  # for all but .txt
    split: str | None = None  # data sets only; None = "train"
    revision: str | None = None  # hub only; None = the default branch
    limit: Count | None = None  # at most this many different prompts; None = all
    shuffle_seed: Seed | None = None  # picks and orders them at random; None = the first, in order
    # Between two shares of its different prompts, as ordered, such as [0.1, 1.0], so that two sets can split one source;
    # None = all. `limit` counts within it
    share: tuple[float, float] | None = None

    _sequences = field_validator("share", mode="before")(_tuples)

    @field_validator("share")
    @classmethod
    def _rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] < value[1] <= 1:
            raise ValueError("give two shares that rise within [0, 1], such as [0.0, 0.1]")
        return value

    @model_validator(mode="after")
    def _settings_are_used(self) -> "PromptSource":
        is_shipped = self.path in prompt_sets()
        is_text = is_shipped or self.path.endswith(".txt")
        refuse_unused([(is_text and self.column != "prompt", "column", "a path to a table or data set")])
        _refuse_in_files(self, is_shipped=is_shipped)
        return self


class Prompts(Section):
    """Three sets that share no prompt. A plain text is a source's path; files as for PromptSource.

    Paths are relative to the shipped recipes' folder or to the working directory.
    """

    train: PromptSource | None = None  # None = those of the recipe's preferences
    heldout: PromptSource  # what tuned and base are compared on
    validation: PromptSource | None = None  # what a section 'validation' samples; None = there is no such section
    # cosine; training prompts above it are dropped; None = all stay
    max_similarity: Annotated[float, Field(gt=0, le=1)] | None = None
    similarity: str = "tfidf"  # or a text encoder's folder or hub id, such as sentence-transformers/all-MiniLM-L6-v2

    @field_validator("train", "heldout", "validation", mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Preferences(Section):
    """Pictures that people (or others) have compared already, instead of candidates of our own."""

    path: str  # a folder, a .jsonl, .csv or .parquet file, or a data set's hub id
    layout: Literal["pickapic", "pairs", "folder"]  # mpo/data/preferences.py says what each is
    split: str | None = None  # data sets only; None = "train"
    revision: str | None = None  # hub only; None = the default branch
    limit: Count | None = None  # at most this many pairs, the first; None = all

    @model_validator(mode="after")
    def _settings_are_used(self) -> "Preferences":
        in_folder = self.layout == "folder"
        refuse_unused(
            [(in_folder and getattr(self, name), name, "a path to a data set") for name in ("split", "revision")]
        )
        _refuse_in_files(self)
        return self


def _check_guidance(settings: Any) -> None:
    """Raises ValueError if `guidance_range` is no range, or holds no step."""
    if settings.guidance_range is None:
        return
    low, high = settings.guidance_range
    if not 0 <= low < high <= 1:
        raise ValueError(f"guidance_range={[low, high]} must rise within [0, 1]")
    refuse_unused([(settings.guidance_scale <= 1, "guidance_range", "a guidance_scale above 1")])
    steps = settings.num_inference_steps
    if not any(low <= step / steps < high for step in range(steps)):
        raise ValueError(
            f"guidance_range={[low, high]} holds none of {steps} steps; widen it, or set guidance_scale to 1.0"
        )


class Generate(Section):
    """Candidates for each training prompt."""

    num_candidates: Annotated[int, Field(ge=2)]  # a prompt
    num_inference_steps: Count  # of denoising, for a sample
    guidance_scale: NonNegative  # 1.0 = none
    batch_size: Count  # samples at a time; part of the result, since rounding depends on it
    scheduler: str | None = None  # a sampler of diffusers, such as DPMSolverMultistepScheduler; None = the model's own
    # shares of the steps, such as [0.0, 0.6], outside which guidance's second pass is spared; None = all steps
    guidance_range: tuple[float, float] | None = None
    # torch.compile of the network for sampling, as train.compile; part of the result, by rounding
    compile: bool = False
    keep_latents: bool = False  # keep what the autoencoder decoded: encoding is free, and its loss is spared; more disk

    _sequences = field_validator("guidance_range", mode="before")(_tuples)

    @model_validator(mode="after")
    def _guidance_is_used(self) -> "Generate":
        _check_guidance(self)
        return self


class Select(Section):
    """Which pairs to train on."""

    strategy: str = "dominance"  # "dominance", "total", "dimension:NAME", or "given": the preferences as they came
    granularity: Literal["dimension", "subdimension", "question"] = "dimension"  # dominance only
    margin: NonNegative  # by how much the chosen must lead, in the checklist's units; strictly more, and always more than a tie
    pairs_per_prompt: Count | None = None  # the widest first; None = all
    num_pairs: Count | None = None  # in all, a random subset; None = all

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        named = value.startswith("dimension:") and value != "dimension:"
        if value not in ("dominance", "total", "given") and not named:
            raise ValueError("use 'dominance', 'total', 'dimension:NAME' or 'given'")
        return value

    @model_validator(mode="after")
    def _settings_are_used(self) -> "Select":
        unused = [
            (self.granularity != "dimension" and self.strategy != "dominance", "granularity", "strategy 'dominance'"),
            (self.margin and self.strategy == "given", "margin", "strategies that compare scores"),
            (self.pairs_per_prompt and self.strategy == "given", "pairs_per_prompt", "strategies that compare scores"),
        ]
        refuse_unused(unused)
        return self


# What each objective is called, with its source; mpo/training/objectives.py has the formulas.
METHODS = {
    "dpo": "Diffusion-DPO (arXiv 2311.12908)",
    "ipo": "IPO (arXiv 2310.12036) on denoising errors",
    "hinge": "a hinge (arXiv 2305.10425) on denoising errors",
    "mapo": "MaPO (arXiv 2406.06424)",
}


class Train(Section):
    """Diffusion-DPO on a LoRA."""

    seed: Seed = 0  # of the order of pairs, their noise, and the LoRA's first weights
    objective: Literal["dpo", "ipo", "hinge", "mapo"] = "dpo"  # mpo/training/objectives.py says what each is
    beta: Positive  # on errors averaged over all but the batch axis (arXiv 2311.12908, eq. 14); mapo: about 0.1
    # dpo only: beta falls so that the factor of the gradient at the running mean margin, sigmoid(-margin), is it;
    # None = beta stays
    gradient_factor: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    # the rejected's gradient is scaled so that it does not raise its chosen's error (mu in arXiv 2511.03317);
    # None = it is not
    safeguard: Annotated[float, Field(ge=0, lt=1)] | None = None
    # dpo only: the chance that a pair is the wrong way round
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    sft_weight: NonNegative = 0.0  # of the chosen's own denoising error, added to the objective
    timestep_sampling: Literal["uniform", "logit_normal"] = "uniform"  # how a pair's noise level is drawn
    timestep_mean: float = 0.0  # logit_normal only (arXiv 2403.03206, section 3.1)
    timestep_std: Positive = 1.0  # logit_normal only
    timestep_range: tuple[float, float] = (0.0, 1.0)  # shares of the schedule, 0 = no noise; the rest is not trained
    timestep_shift: Positive | None = None  # flow models only; above 1 = more noise (arXiv 2403.03206, eq. 23);
    # None = the scheduler's own, by resolution if it samples so
    num_draws: Count | None = None  # of noise and timestep for a pair, used in turn; None = a new one at each pass
    error_weighting: Literal["none", "min_snr"] = "none"  # arXiv 2303.09556
    snr_gamma: Positive = 5.0  # min_snr only; 5 is the paper's
    learning_rate: Positive  # the highest, after warm-up
    num_steps: Count  # of the optimizer
    warmup_steps: Annotated[int, Field(ge=0)] = 0  # over which the rate rises from 0
    lr_schedule: Literal["constant", "cosine", "linear"] = "constant"  # after warm-up; the last two fall to 0
    batch_size: Count  # pairs a step, over all processes and accumulation steps
    micro_batch_size: Count | None = None  # pairs that a process holds at a time; None = its whole share of batch_size
    rank: Count  # of the LoRA
    alpha: Positive  # the LoRA counts alpha / rank times
    lora_targets: tuple[str, ...] | None = None  # None = the family's attention projections
    optimizer: str = "AdamW"  # a class of torch.optim, or "AdamW8bit" (bitsandbytes)
    optimizer_options: dict[str, Any] = Field(
        default_factory=dict
    )  # others of its arguments, such as betas: [0.9, 0.99]
    weight_decay: NonNegative = 0.0  # the optimizer's
    max_grad_norm: Positive = 1.0  # a longer gradient is cut to it
    # stop if the chosen's error grows to this many times the reference's
    max_error_ratio: Annotated[float, Field(gt=1)] = 3.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None  # of the LoRA's running mean; None = no mean is kept
    distilled_guidance: NonNegative | None = None  # models with distilled guidance; None = generate.guidance_scale
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"  # in which the network computes while it trains
    gradient_checkpointing: bool = False  # less memory, about a third slower
    attention: Literal["sdpa", "xformers"] = "sdpa"  # which kernels
    compile: bool = False  # torch.compile, block by block
    # a folder for the reference's errors, which other runs may share; None = not kept
    reference_cache: str | None = None
    checkpoint_interval_steps: Count  # a checkpoint every N steps

    _sequences = field_validator("lora_targets", "timestep_range", mode="before")(_tuples)

    @model_validator(mode="after")
    def _settings_are_used(self) -> "Train":
        unused = [
            (self.label_smoothing and self.objective != "dpo", "label_smoothing", "objective 'dpo'"),
            (self.gradient_factor and self.objective != "dpo", "gradient_factor", "objective 'dpo'"),
            (
                self.timestep_mean and self.timestep_sampling != "logit_normal",
                "timestep_mean",
                "timestep_sampling 'logit_normal'",
            ),
            (
                self.timestep_std != 1 and self.timestep_sampling != "logit_normal",
                "timestep_std",
                "timestep_sampling 'logit_normal'",
            ),
            (self.snr_gamma != 5 and self.error_weighting != "min_snr", "snr_gamma", "error_weighting 'min_snr'"),
            (self.reference_cache and self.objective == "mapo", "reference_cache", "objectives with a reference"),
        ]
        refuse_unused(unused)
        low, high = self.timestep_range
        if not 0 <= low < high <= 1:
            raise ValueError(f"timestep_range={[low, high]} must rise within [0, 1]")
        return self

    @model_validator(mode="after")
    def _settings_have_one_home(self) -> "Train":
        remedies = {
            "params": "the parameters are the LoRA's; remove it",
            "lr": "set train.learning_rate instead",
            "weight_decay": "set train.weight_decay instead",
        }
        for name, remedy in remedies.items():
            if name in self.optimizer_options:
                raise ValueError(f"optimizer_options.{name}: {remedy}")
        return self

    @model_validator(mode="after")
    def _batches_fit(self) -> "Train":
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of micro_batch_size={self.micro_batch_size}; change one of them"
            )
        if self.warmup_steps >= self.num_steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be less than num_steps={self.num_steps}")
        return self


class Validation(Section):
    """Now and then, the mean score of pictures for the validation prompts; the best checkpoint is the result."""

    interval_steps: Count  # of training, between two validations
    seed: Seed = 2  # of the first noise
    num_seeds: Count = 1  # pictures a prompt
    num_inference_steps: Count  # of denoising, for a sample
    guidance_scale: NonNegative  # 1.0 = none
    batch_size: Count  # samples at a time; part of the result, since rounding depends on it
    scheduler: str | None = None  # a sampler of diffusers, such as DPMSolverMultistepScheduler; None = the model's own
    # shares of the steps, such as [0.0, 0.6], outside which guidance's second pass is spared; None = all steps
    guidance_range: tuple[float, float] | None = None
    patience: Count | None = None  # stop after this many validations without a new best; None = train to the end

    _sequences = field_validator("guidance_range", mode="before")(_tuples)

    @model_validator(mode="after")
    def _guidance_is_used(self) -> "Validation":
        _check_guidance(self)
        return self


WandbName = Annotated[str, Field(pattern=WANDB_NAME)]


class Tracking(Section):
    """Where training's curves and sample pictures are shown, beside the run's own logs."""

    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()  # () = the run's own logs alone
    project: WandbName = "mpo"  # wandb's project; TensorBoard's folder below RUN/trackers
    entity: str | None = None  # wandb's user or team; None = the default of the account
    name: str | None = None  # of the run in wandb; None = the recipe's
    tags: tuple[str, ...] = ()  # of the run in wandb
    run_id: WandbName | None = None  # wandb's; None = made once and kept, so that a resumed run continues in it

    _sequences = field_validator("trackers", "tags", mode="before")(_tuples)

    @model_validator(mode="after")
    def _settings_are_used(self) -> "Tracking":
        fields = ("entity", "name", "tags", "run_id")
        unused = [(getattr(self, name) and "wandb" not in self.trackers, name, "tracker 'wandb'") for name in fields]
        refuse_unused([(self.project != "mpo" and not self.trackers, "project", "trackers"), *unused])
        return self


class Evaluate(Section):
    """Tuned against base on the held-out prompts, at paired seeds."""

    seed: Seed  # of the first noise, the same for base and tuned
    num_seeds: Count  # pictures a prompt and model
    num_inference_steps: Count  # of denoising, for a sample
    guidance_scale: NonNegative  # 1.0 = none
    batch_size: Count  # samples at a time; part of the result, since rounding depends on it
    scheduler: str | None = None  # a sampler of diffusers, such as DPMSolverMultistepScheduler; None = the model's own
    # shares of the steps, such as [0.0, 0.6], outside which guidance's second pass is spared; None = all steps
    guidance_range: tuple[float, float] | None = None
    # torch.compile of the network for sampling, as train.compile; part of the result, by rounding
    compile: bool = False
    judges: tuple[Judging, ...] = ()  # others than `judge`, which had no part in choosing: does the gain hold by them?
    num_bootstrap: Count = 10_000  # resamples of an interval

    _sequences = field_validator("judges", "guidance_range", mode="before")(_tuples)

    @model_validator(mode="after")
    def _guidance_is_used(self) -> "Evaluate":
        _check_guidance(self)
        return self


class Recipe(Section):
    """One alignment run. `seed` decides the candidates; `train.seed` the training."""

    name: Annotated[str, Field(pattern=RUN_NAME)]  # of the run's folder and its LoRA's file
    description: str  # one line, which `mpo recipes` shows
    seed: Seed = 0  # of the candidates
    rounds: Count = 1  # above 1: each further round samples from the model tuned so far, and trains on (mpo/rounds.py)
    # a finished run, or its LoRA as training writes it: candidates come from the model with it, and training goes on
    # from it; None = the untuned model. It is copied into the run
    start: str | None = None
    model: Model
    prompts: Prompts
    generate: Generate | None = None  # None = the pairs come from `preferences`
    preferences: Preferences | None = None  # None = candidates are made by `generate`
    judge: Judges
    select: Select
    train: Train
    validation: Validation | None = None  # None = the last checkpoint is the result
    tracking: Tracking = Field(default_factory=Tracking)
    evaluate: Evaluate

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        if (self.generate is None) == (self.preferences is None):
            raise ValueError("give either a section 'generate' or a section 'preferences'")
        if (self.preferences is None) == (self.prompts.train is None):
            raise ValueError(
                "prompts.train goes with a section 'generate'; with 'preferences', prompts are those of the pairs"
            )
        if self.preferences is not None and self.rounds > 1:
            raise ValueError("rounds sample anew, so they go with a section 'generate'; set rounds to 1")
        kept = self.train.reference_cache
        if self.rounds > 1 and kept is not None and (Path(kept).is_absolute() or ".." in Path(kept).parts):
            raise ValueError(
                f"train.reference_cache={kept!r} would be shared by the rounds, whose pairs differ; name a folder within the run, such as 'errors'"
            )
        if self.select.strategy == "given" and self.preferences is None:
            raise ValueError("select.strategy='given' needs a section 'preferences'; use 'dominance'")
        if self.model.offload == "blocks" and not self.train.gradient_checkpointing:
            raise ValueError(
                "model.offload='blocks' needs train.gradient_checkpointing=true: else all blocks stay for the backward; set it, or offload to 'networks'"
            )
        compiled = [n for n in ("train", "generate", "evaluate") if getattr(getattr(self, n), "compile", False)]
        if self.model.offload == "blocks" and compiled:
            raise ValueError(
                f"model.offload='blocks' does not work with {compiled[0]}.compile=true; set it to false, or offload to 'networks'"
            )
        if (self.validation is None) != (self.prompts.validation is None):
            raise ValueError("prompts.validation and a section 'validation' go together; give both or neither")
        return self


def refuse_rounds(recipe: Recipe, folder: Path) -> None:
    """Raises MpoError for a run in rounds, where one of them is meant."""
    if recipe.rounds > 1:
        raise MpoError(
            f"{str(folder)!r} holds {recipe.rounds} rounds, each a run; name one, such as {last_round(folder, recipe.rounds)}"
        )


def candidate_stage(recipe: Recipe) -> str:
    """The stage that brings the candidates."""
    return "import-pairs" if recipe.preferences else "generate"


def recipes_folder() -> Path:
    """Where the shipped recipes are: inside the installed package, or beside it in a checkout."""
    packaged = Path(str(resources.files("mpo"))) / "recipes"
    return packaged if packaged.is_dir() else packaged.parent.parent / "recipes"


def shipped_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted(recipes_folder().glob("*.yaml"))}


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file, with settings such as "train.learning_rate=1e-5" on top.

    Raises RecipeError with one line that names the field, its value and the remedy.
    """
    shipped = shipped_recipes()
    path = shipped.get(name) or Path(name)
    if not path.is_file():
        raise RecipeError(f"recipe={name!r} is neither shipped ({', '.join(shipped)}) nor a file; give one of these")
    fields = _read_yaml(path)
    for setting in settings:
        _lay_over(fields, setting)
    return parse_recipe(fields, source=str(name))


def parse_recipe(fields: Mapping[str, Any], *, source: str) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise RecipeError(f"recipe {source}: {_explain(error, fields)}") from None


def read_recipe(path: Path) -> Recipe:
    """A resolved recipe from a run directory."""
    return parse_recipe(_read_yaml(path), source=str(path))


def dump_recipe(recipe: Recipe) -> str:
    return write_yaml(recipe.model_dump(mode="json"))


def flat_fields(name: str, value: Any) -> dict[str, Any]:
    """A section as YAML has it -> its fields by their full names; of several judges, each by its place. A judge's options stay together."""
    if name == "judge" and isinstance(value, list):
        value = {str(place): judging for place, judging in enumerate(value)}
    if not isinstance(value, dict) or not value or (name.startswith("judge.") and name.endswith(".options")):
        return {name: value}
    return {key: each for inner, held in value.items() for key, each in flat_fields(f"{name}.{inner}", held).items()}


def find_prompts(file: str) -> Path:
    """A prompt file named in a recipe: a shipped set, beside the shipped recipes, or relative to the working directory."""
    if file in prompt_sets():
        return recipes_folder() / "prompts" / f"{file}.txt"
    shipped = recipes_folder() / file
    return shipped if shipped.is_file() else Path(file)


def prompt_sets() -> list[str]:
    """Names of the shipped prompt sets of others, each with its licence beside it."""
    return sorted(licence.stem for licence in (recipes_folder() / "prompts").glob("*.LICENSE"))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        fields = read_yaml(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"recipe {path} is not YAML in UTF-8: {' '.join(str(error).split())}; correct the file"
        ) from None
    if not isinstance(fields, dict):
        raise RecipeError(f"recipe {path} is not a mapping; see a shipped one with `mpo show quickstart`")
    return fields


def _lay_over(fields: dict[str, Any], setting: str) -> None:
    key, value = parse_setting(setting, flag="--set", example="train.learning_rate=1e-5", error=RecipeError)
    *sections, last = key.split(".")
    target, known = fields, Recipe.model_fields
    for section in sections:
        if isinstance(target, list):  # of judges
            target = _entry(target, section, setting)
            continue
        annotation = known[section].annotation if section in known else None
        below = _section_in(annotation)
        if (below or get_origin(annotation) is dict) and target.get(section) is None:
            target[section] = {}  # a section that the file leaves out, or options
        held: Any = target.get(section)
        if isinstance(held, str) and below is PromptSource:
            held = {"path": held}
        if not isinstance(held, dict | list):
            raise RecipeError(
                f"--set {setting!r}: the recipe has no section {section!r}{did_you_mean(section, known if target is fields else target)}; it has: {', '.join(k for k, v in target.items() if isinstance(v, dict)) or 'none here'}"
            )
        target[section] = held = held.copy()  # a YAML alias may stand for it elsewhere, too
        target, known = held, below.model_fields if below else {}
    if isinstance(target, list):
        target = _entry(target, last, setting)
    target[last] = value


def _entry(entries: list[Any], place: str, setting: str) -> dict[str, Any]:
    """One judge of several."""
    if place.isdigit() and int(place) < len(entries) and isinstance(entries[int(place)], dict):
        entries[int(place)] = entries[int(place)].copy()
        return entries[int(place)]
    raise RecipeError(
        f"--set {setting!r}: the recipe has a list of {len(entries)} judges; name one of them, as in judge.0.name"
    )


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, be it optional or not; None = it holds none."""
    return next((a for a in (annotation, *get_args(annotation)) if hasattr(a, "model_fields")), None)


_REMEDIES = {
    "model_type": "give a section, its fields below its name",
    "string_type": "give text; quote what YAML reads as something else",
}


def _explain(error: ValidationError, fields: Mapping[str, Any]) -> str:
    """The first problem: field, value and remedy."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the recipe"
    place = place.replace("judge.0.", "judge.") if isinstance(fields.get("judge"), Mapping) else place
    if first["type"] == "extra_forbidden":
        section: Any = Recipe
        for part in (part for part in first["loc"][:-1] if isinstance(part, str)):
            section = _section_in(section.model_fields[str(part)].annotation)
        guess = did_you_mean(str(first["loc"][-1]), section.model_fields)
        return f"{place} is unknown{guess}; known here: {', '.join(section.model_fields)}"
    if first["type"] == "missing":
        return f"{place} is missing; give it a value"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "tuple_type":
        is_judge = first["loc"][-1] in ("judge", "judges")
        message = "give {name: …}, or a list of such" if is_judge else "give a list"
    elif first["type"] == "string_pattern_mismatch":
        message = PATTERNS[first.get("ctx", {})["pattern"]]
    elif first["type"] in _REMEDIES:
        message = _REMEDIES[first["type"]]
    value = "" if isinstance(first["input"], dict) else f"={first['input']!r}"
    return f"{place}{value}: {message[0].lower()}{message[1:]}"
