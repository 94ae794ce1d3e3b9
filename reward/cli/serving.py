"""Commands about servers: serve, serve-check."""

from pathlib import Path
from typing import Annotated

import typer

from reward.cli.options import Cache, ChecklistName, JudgeName, NoAlignment, Options, Questions, judges_of, load_reward
from reward.cli.output import say
from reward.errors import RewardError


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen at. 0.0.0.0: everybody who can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8200,
    root: Annotated[
        Path | None, typer.Option(help="Items may be named by a path under this folder. Default: data alone.")
    ] = None,
    max_body_mb: Annotated[float, typer.Option(help="Of one request.")] = 64.0,
    max_items: Annotated[int, typer.Option(help="Of one request.")] = 256,
    timeout_s: Annotated[float, typer.Option(help="For the answer to one request.")] = 600.0,
    no_alignment: NoAlignment = False,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
) -> None:
    """Serve the reward over HTTP, for trainers in another environment: POST /score, GET /health, GET /metrics."""
    try:
        from reward import service
    except ModuleNotFoundError as error:
        if error.name not in ("prometheus_client", "starlette", "uvicorn"):
            raise
        raise RewardError(f"reward serve needs {error.name}; pip install 'mpo[serve]'") from None

    if root is not None and not root.is_dir():
        raise RewardError(f"--root={str(root)!r} is no folder; give one")
    reward = load_reward(judges_of(judge, option, checklist, questions), cache)
    limits = service.Limits(max_body_mb=max_body_mb, max_items=max_items, timeout_s=timeout_s)
    service.serve(
        reward.without_alignment() if no_alignment else reward, host=host, port=port, root=root, limits=limits, say=say
    )


def serve_check(
    url: Annotated[str, typer.Argument(help="Such as http://localhost:8000/v1.")],
    model: Annotated[str | None, typer.Option(help="Its name on the server. Default: the only one it serves.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Default: $OPENAI_API_KEY.")] = None,
) -> None:
    """Find out whether a server can judge: ask it about a picture and show its answer."""
    import time

    from PIL import Image

    from reward.checklist import Question
    from reward.judges.server import ServerJudge, describe

    question = Question(id="red", text="Is this picture red?")
    with ServerJudge(url, model, api_key=api_key, max_retries=1) as judge:
        for endpoint, name, how in describe(judge):
            typer.echo(f"{endpoint} serves {name}; asked for {how}")
        for words, colour in (("a red", (200, 30, 30)), ("a blue", (30, 30, 200))):
            start = time.perf_counter()
            p_yes = judge.answer([Image.new("RGB", (224, 224), colour)], [""], [question])[0, 0]
            taken_ms = 1000 * (time.perf_counter() - start)
            typer.echo(f"of {words} picture, {question.text!r}: P(yes) {p_yes:.3f}, in {taken_ms:.0f} ms")
