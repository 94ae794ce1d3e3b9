"""The server of `mpo view`, asked over HTTP."""

import json
from collections.abc import Iterator

import pytest

from mpo import MpoError
from mpo.pages.report import SCRIPTS, STYLES
from mpo.pages.server import LocalServer, view_routes
from mpo.run_folder.paths import RunFolder
from tests.helpers.servers import ask, serving


@pytest.fixture(scope="module")
def server(finished) -> Iterator[LocalServer]:
    with serving(view_routes([RunFolder(finished)])) as server:
        yield server


def test_the_page_and_all_that_it_names_are_served(server):
    status, headers, page = ask(server, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    for name in (*STYLES, *SCRIPTS):
        assert name.encode() in page
        status, headers, content = ask(server, f"/{name}")
        assert (status, len(content) > 100) == (200, True)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert json.loads(ask(server, "/runs.json")[2]) == ["run"]


def test_every_sample_of_the_data_is_served(server, finished):
    data = json.loads(ask(server, "/data/0.json")[2])
    for sample in data["samples"]:
        status, headers, content = ask(server, f"/media/0/{sample['file']}")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert content == (finished / sample["file"]).read_bytes()


def test_a_player_gets_the_part_that_it_asks_for(server, finished):
    file = next((finished / "candidates").rglob("*.png"))
    whole, name = file.read_bytes(), file.relative_to(finished).as_posix()
    status, headers, content = ask(server, f"/media/0/{name}", Range="bytes=10-19")
    assert (status, content, headers["Content-Range"]) == (206, whole[10:20], f"bytes 10-19/{len(whole)}")
    assert ask(server, f"/media/0/{name}", Range="bytes=10-")[2] == whole[10:]


@pytest.mark.parametrize(
    "path",
    [
        "/recipe.yaml", "/media/0/recipe.yaml", "/media/0/candidates/../recipe.yaml", "/media/0/..%2f..%2fetc%2fpasswd",
        "/media/0//etc/passwd", "/media/1/candidates/000000.png", "/media/0/candidates/absent.png", "/data/1.json", "/data/-1.json",
        "/media/0/scores.parquet", "/../pyproject.toml", "/page.html",
    ],
)  # fmt: skip
def test_nothing_else_is_served(server, path):
    assert ask(server, path)[0] == 404


def test_a_link_out_of_the_run_is_not_followed(finished, tmp_path):
    (tmp_path / "candidates").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "candidates" / "a.png").symlink_to(tmp_path / "secret.png")
    with serving(view_routes([RunFolder(tmp_path)])) as server:
        assert ask(server, "/media/0/candidates/a.png")[0] == 404


def test_other_names_of_this_machine_are_refused(server):
    assert ask(server, "/", Host="example.com")[0] == 403
    assert ask(server, "/", Host=f"localhost:{server.server_address[1]}")[0] == 200


def test_only_the_page_itself_may_write(finished):
    got = []
    with serving(
        view_routes([RunFolder(finished)]), lambda path, record: got.append((path, record)) or {"ok": 1}
    ) as server:
        json_ = {"Content_Type": "application/json"}
        own = server.url.rstrip("/")
        for headers in (
            {},
            json_,
            {**json_, "Origin": "http://example.com"},
            {"Content_Type": "text/plain", "Origin": own},
        ):
            assert ask(server, "/vote", "POST", b"{}", **headers)[0] == 403
        status, _, content = ask(server, "/vote", "POST", b'{"a": 2}', **json_, Origin=own)
        assert (status, json.loads(content), got) == (200, {"ok": 1}, [("vote", {"a": 2})])
        assert ask(server, "/vote", "POST", b"no json", **json_, Origin=own)[0] == 400


def test_viewing_alone_takes_no_post(server):
    headers = {"Content_Type": "application/json", "Origin": server.url.rstrip("/")}
    assert ask(server, "/vote", "POST", b"{}", **headers)[0] == 403


def test_a_port_in_use_is_named(server):
    with pytest.raises(MpoError, match=f"--port {server.server_address[1]} cannot be used .* give another"):
        LocalServer(view_routes([]), port=server.server_address[1])


def test_a_run_without_evaluation_says_so(tmp_path):
    with serving(view_routes([RunFolder(tmp_path)])) as server:
        status, _, content = ask(server, "/data/0.json")
    assert status == 400
    assert b"recipe.yaml" in content
