"""A small HTTP server that speaks the OpenAI protocol as vLLM does, answers by rule and makes faults when told to."""

import base64
import hashlib
import io
import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

VOCABULARY = {text: 10 + i for i, text in enumerate(["yes", "Yes", " yes", "no", "No", " no", "Perhaps", "The"])}


def probability_of_yes(pixels: np.ndarray, question: str) -> float:
    """What the stand-in's model makes of a picture and a question: anything, but of both."""
    digest = hashlib.sha256(pixels.tobytes() + question.encode()).digest()
    return 0.01 + 0.98 * int.from_bytes(digest[:4], "big") / 2**32


class StandInServer:
    """`with StandInServer(faults=[…]) as server:`; each fault is spent on one chat request, first come first served.

    faults: an HTTP status, "slow", "no_logprobs", "neither", "one_sided" or "narrow".
    by_id: whether /tokenize and logprob_token_ids are known. max_pictures: a request with more is refused, as by vLLM.
    """

    def __init__(
        self, *, faults: list[Any] | None = None, by_id: bool = True, always: Any = None, max_pictures: int = 99
    ):
        self.faults, self.by_id, self.always = list(faults or []), by_id, always
        self.refused = "\0"  # a request that holds these words is refused with status 400
        self.requests: list[dict[str, Any]] = []
        self.under_way, self.most_under_way = 0, 0
        self.lock = threading.Lock()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.reply(
                    200, {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "x"}]}
                )

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/tokenize":
                    known = VOCABULARY.get(body["prompt"])
                    tokens = [known] if known else [1, 2]
                    self.reply(*((200, {"count": len(tokens), "tokens": tokens}) if stand_in.by_id else (404, {})))
                    return
                with stand_in.lock:
                    fault = stand_in.faults.pop(0) if stand_in.faults else stand_in.always
                    stand_in.requests.append(body)
                    stand_in.under_way += 1
                    stand_in.most_under_way = max(stand_in.under_way, stand_in.most_under_way)
                time.sleep(3.0 if fault == "slow" else 0.01)
                with stand_in.lock:
                    stand_in.under_way -= 1
                content = body["messages"][0]["content"]
                if sum(part["type"] == "image_url" for part in content) > max_pictures:
                    said = f"At most {max_pictures} image(s) may be provided in one prompt."
                    self.reply(400, {"error": {"message": said, "type": "x", "param": None, "code": 400}})
                elif stand_in.refused in body["messages"][0]["content"][-1]["text"]:
                    self.reply(400, {"error": {"message": "refused", "type": "x", "param": None, "code": 400}})
                elif isinstance(fault, int):
                    self.reply(
                        fault, {"error": {"message": f"fault {fault}", "type": "x", "param": None, "code": fault}}
                    )
                else:
                    self.reply(200, stand_in.complete(body, fault))

            def reply(self, status: int, fields: dict[str, Any]):
                content = json.dumps(fields).encode()
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "0.05")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):  # a client that has given up waiting
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def complete(self, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        content = body["messages"][0]["content"]
        p = probability_of_yes(_pixels(content), content[-1]["text"])
        probabilities = {"yes": p * 0.5, "Yes": p * 0.3, " yes": p * 0.1, "no": (1 - p) * 0.6, "No": (1 - p) * 0.3}
        probabilities |= {" no": 1e-9, "Perhaps": 0.06, "The": 0.04}
        if fault == "neither":
            probabilities = {"Perhaps": 0.7, "The": 0.3}
        if fault == "one_sided":
            probabilities = {"yes": 0.9995, "The": 0.0005}
        if fault == "narrow":
            probabilities = {"Perhaps": 0.6, "yes": 0.2, "The": 0.2}
        ids = body.get("logprob_token_ids") if self.by_id else None
        texts = (
            [t for t in VOCABULARY if VOCABULARY[t] in ids]
            if ids
            else sorted(probabilities, key=lambda t: -probabilities[t])
        )
        named = body.get("return_tokens_as_token_ids") if self.by_id else False
        entries = [
            {
                "token": f"token_id:{VOCABULARY[t]}" if named else t,
                "logprob": math.log(probabilities[t]) if probabilities.get(t) else -9999.0,
                "bytes": list(t.encode()),
            }
            for t in texts
        ]
        logprobs = None if fault == "no_logprobs" else {"content": [{**entries[0], "top_logprobs": entries}]}
        message = {"role": "assistant", "content": texts[0]}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "length"}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}

    def pictures_by_place(self) -> list[str]:
        return [json.dumps(body["messages"][0]["content"][:-1]) for body in self.requests]


def _pixels(content: list[dict[str, Any]]) -> np.ndarray:
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))) for url in urls]
    return np.stack(images) if images else np.zeros(0, np.uint8)
