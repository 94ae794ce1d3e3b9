"""The judge's answers about pictures: shared by the stages score and evaluate, and by validation."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpo import MpoError
from mpo.recipe import Recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.tables import numbers_of, read_table, write_table
from mpo.runtime.hub import is_hub_id, is_offline
from mpo.runtime.lazily import Lazily
from mpo.runtime.pieces import Advance, Piece, Work, do_share
from reward import Checklist, Reward, Scores, score_answers
from reward.errors import MediaError
from reward.judges.options import check_options
from reward.judges.own import is_own, own_judge
from reward.judging import Judging, check_judges, checklist_of, checklist_of_all, load_reward

CHUNK = 64  # pictures between two writes
PER_FOLDER = 1000  # chunks
PER_BLOCK = 128  # chunks, of whose rows memory holds the scores at a time


# Options of judges that do not make another judge of one.
HOW_IT_COMPUTES = (
    "api_key", "attn_implementation", "batch_size", "concurrency", "device_map", "dtype", "max_packed_tokens", "max_retries",
    "mode", "quantization", "timeout_s", "trust_remote_code",
)  # fmt: skip
P_YES = pa.schema([("p_yes", pa.list_(pa.float64()))])


def check_judge(recipe: Recipe, prompts: Sequence[str]) -> Checklist:
    """The checklist that is asked. Loads no weights: whether a judge that has some can answer shows when it is loaded.

    Raises JudgeError or ChecklistError if the recipe's judge, its options, questions or prompts cannot be used, or if the
    judge is known not to take what the checklist is about; MpoError if a judge that chooses pairs is named as one that does not.
    """
    judgings = (*recipe.judge, *recipe.evaluate.judges)
    own = [_who(each) for each in recipe.judge]
    for each in recipe.evaluate.judges:
        if _who(each) in own:
            raise MpoError(
                f"evaluate.judges names {each.name!r}, the recipe's own judge, whose rates come first anyway; name judges that have no part in choosing"
            )
    for each in judgings:
        on_hub = each.name == "vlm" and is_hub_id(str(each.options.get("model")))
        if on_hub and checklist_of(each).kind == "video":
            is_offline()  # finds out once, within seconds, that the hub cannot be reached: its files are asked for next
    check_judges(judgings)
    for each in judgings:
        if each.name == "measured":  # it has no weights to be loaded
            load_reward([each]).require_prompts(prompts)
        elif is_own(each.name):
            judge = own_judge(each.name, each.options)
            if isinstance(
                inspect.getattr_static(judge, "require_prompts"), staticmethod
            ):  # it needs no weights for that
                judge.require_prompts(prompts, checklist_of(each).kind)
    only_measured = all(each.name == "measured" for each in recipe.judge)
    return load_reward(recipe.judge).checklist if only_measured else checklist_of_all(recipe.judge)


def _who(judging: Judging) -> tuple[str, dict[str, Any]]:
    """What makes a judge another one: its name and options, defaults included, but for those that only say how it computes."""
    options = judging.options if is_own(judging.name) else check_options(judging.name, judging.options).model_dump()
    kept = {name: value for name, value in options.items() if name not in HOW_IT_COMPUTES}
    for name in {"model", "processor"} & set(kept):
        if kept[name] and Path(kept[name]).is_dir():
            kept[name] = str(Path(kept[name]).resolve())
    return judging.name, kept | {"revision": kept.get("revision") or "main"}


def scored_checklist(table: pa.Table, path: Path) -> Checklist:
    """What the judges were asked for a table, as the table itself says. Raises MpoError if it does not."""
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    try:
        checklist = Checklist.model_validate_json(metadata["asked"])
        if checklist.fingerprint == metadata["checklist"]:
            return checklist
    except (KeyError, ValueError):
        pass
    raise MpoError(f"{path} is damaged: it does not say which questions were asked; see `mpo status {path.parent}`")


def score_files(
    reward: Reward,
    files: Sequence[Path],
    prompts: Sequence[str],
    *,
    parts: Path,
    description: str,
    made_by: str,
) -> Scores:
    """Scores of N picture files, kept in `parts` chunk by chunk so that a killed run continues where it was.

    Every process judges its share of the chunks, and all return the whole. Raises as `Scoring` does.
    """
    work = Scoring(lambda: reward, files, prompts, parts=parts, description=description, made_by=made_by)
    do_share(work)
    return work.scores()


@dataclass(frozen=True)
class Chunk:
    """Some pictures that are judged between two writes."""

    table: Path
    files: Sequence[Path]
    prompts: Sequence[str]

    @cached_property
    def items(self) -> str:
        """A digest of the pictures and their prompts."""
        lines = (f"{sha256(file)} {prompt}" for file, prompt in zip(self.files, self.prompts, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def is_kept(self, judged_by: Mapping[str, str]) -> bool:
        kept = self.metadata()
        return kept is not None and kept == {**judged_by, "items": self.items}

    def metadata(self) -> dict[str, str] | None:
        """What the table says about the judge, the questions and the pictures; None = it is absent or damaged."""
        try:
            schema = pq.read_schema(self.table)
        except (OSError, pa.ArrowInvalid):
            return None
        return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


class Scoring(Work[Chunk]):
    """Pictures or clips to be judged, a chunk of fixed size a piece, each kept as a table in the folder `parts`.

    A chunk that was kept from other pictures, texts, questions or another judge is judged again. `load` gives the reward when
    it is needed; only then is known what the judge is, so only `do` can tell whether a chunk is done.
    made_by: the command that makes a picture again that cannot be decoded; MpoError names both.
    """

    def __init__(
        self,
        load: Callable[[], Reward],
        files: Sequence[Path],
        prompts: Sequence[str],
        *,
        parts: Path,
        description: str,
        made_by: str,
    ):
        self.description = description
        self.parts = parts
        self._load = load
        self._made_by = made_by
        self._files, self._prompts = files, prompts
        self.pieces = Lazily(-(-len(files) // CHUNK), self._piece)

    def _piece(self, place: int) -> Piece[Chunk]:
        rows = slice(place * CHUNK, (place + 1) * CHUNK)
        table = self.parts / f"{place // PER_FOLDER:04d}" / f"{place:07d}.parquet"
        chunk = Chunk(table, list(self._files[rows]), list(self._prompts[rows]))
        return Piece(chunk, len(chunk.files), (table,))

    def load(self) -> Reward:
        return self._load()

    def is_done(self, piece: Piece[Chunk]) -> bool:
        return False

    def do(self, held: Reward, piece: Piece[Chunk], advance: Advance) -> None:
        chunk = piece.content
        judged_by = {**held.checklist.metadata, "judge": held.fingerprint}
        if chunk.is_kept(judged_by):
            advance(piece.num_items)
            return
        try:
            scored = held.score(chunk.files, chunk.prompts, on_item=lambda: advance(1))
        except MediaError as error:
            raise MpoError(f"{self.description}: {error}: run `{self._made_by}`, which makes it again") from error
        write_table(chunk.table, {"p_yes": scored.p_yes.tolist()}, P_YES, judged_by | {"items": chunk.items})

    def words(self, piece: Piece[Chunk]) -> Iterator[str]:
        chunk = piece.content
        yield chunk.table.name
        for file, prompt in zip(chunk.files, chunk.prompts, strict=True):
            yield f"{file.name} {prompt}"

    def scores(self) -> Scores:
        """What all chunks hold, at once. Raises MpoError as `blocks` does."""
        blocks = list(self.blocks())
        return score_answers(np.concatenate([scores.p_yes for scores in blocks]), blocks[0].checklist)

    def blocks(self) -> Iterator[Scores]:
        """What the chunks hold, some thousand rows at a time, in order.

        Raises MpoError unless the same judge answered the same questions about all of them.
        """
        first: Chunk | None = None
        checklist: Checklist | None = None
        judged_by: dict[bytes, bytes] = {}
        for start in range(0, len(self.pieces), PER_BLOCK):
            p_yes = []
            for piece in self.pieces[start : start + PER_BLOCK]:
                chunk = piece.content
                table = read_table(chunk.table, made_by="score")
                if first is None or checklist is None:
                    first, checklist = chunk, scored_checklist(table, chunk.table)
                    judged_by = _judged_by(table)
                elif _judged_by(table) != judged_by:
                    raise MpoError(
                        f"{self.description}: {chunk.table} and {first.table.name} were answered by different judges, or versions of one; give all machines the same, and run the same command again"
                    )
                p_yes.append(numbers_of(table.column("p_yes")))
            assert checklist is not None
            yield score_answers(np.concatenate(p_yes), checklist)


def _judged_by(table: pa.Table) -> dict[bytes, bytes]:
    """What a chunk says about the judge and the questions."""
    return {key: value for key, value in (table.schema.metadata or {}).items() if key != b"items"}


def checked_scores(rows: Sequence[Mapping[str, Any]], checklist: Checklist, path: Path) -> Scores:
    """Rows of a table with p_yes -> Scores. Raises MpoError if the table's other columns do not follow from p_yes."""
    try:
        scores = score_answers(np.array([row["p_yes"] for row in rows]), checklist)
    except ValueError as error:
        raise MpoError(f"{path} is damaged ({error}); see `mpo status` for the stage to repair") from None
    if not np.allclose(scores.total, [row["total"] for row in rows], rtol=0, atol=1e-9):
        raise MpoError(
            f"{path} is damaged: its totals do not follow from its answers; see `mpo status` for the stage to repair"
        )
    return scores
