"""A server of judges, on this machine, that fails as it is told to."""

import http.server
import json
import re
import threading
import time

ANSWERS = ("yes", "no", "perhaps: I would\u2028say so")  # the last does not parse


def answer_to(row: str) -> str:
    return ANSWERS[int(row.removeprefix("r")) % len(ANSWERS)]


class Server(http.server.ThreadingHTTPServer):
    """Answers each row by `answer_to`, after the faults that `faults` lists for it; `asked` logs every request."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.faults: dict[str, list[str]] = {}
        self.always: str | None = None
        self.asked: list[str] = []
        self.times: list[float] = []
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()
        self.lock = threading.Lock()

    def next_fault(self, row: str) -> str | None:
        with self.lock:
            self.asked.append(row)
            self.times.append(time.monotonic())
            faults = self.faults.get(row)
            return faults.pop(0) if faults else self.always


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        self.server.bodies.append({"path": self.path, **body})
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        row = re.findall(r"\[(r\d+)\]", text)[0]
        fault = self.server.next_fault(row)
        field = {"text": answer_to(row)} if "prompt" in body else {"message": {"content": answer_to(row)}}
        self.respond(fault, {"choices": [field]})

    def respond(self, fault: str | None, answer: dict):
        match fault:
            case None:
                self.send(200, answer)
            case "hold" | "slow":
                self.server.release.wait(30)
                self.close_connection = True
            case "429":
                self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"})
            case "429 for long":
                self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"})
            case "drop":
                self.send(200, answer, cut=5)
            case "html":
                self.send(200, "<html>Bad gateway</html>", {"Content-Type": "text/html"})
            case "not json":
                self.send(200, '{"choices": [')
            case "no choices":
                self.send(200, {"id": "x", "choices": []})
            case "no text":
                self.send(200, {"choices": [{"message": {"content": ["yes"]}}]})
            case "a list":
                self.send(200, [1])
            case "empty":
                self.send(200, {"choices": [{"message": {"content": ""}}]})
            case "null":
                self.send(200, {"choices": [{"message": {"content": None}}]})
            case "rubbish":
                self.send(200, {"choices": [{"message": {"content": "x" * 5000}}]})
            case "surrogate":
                self.send(200, '{"choices": [{"message": {"content": "\\ud800\\u202e\\n"}}]}')
            case "echo":
                self.send(200, {"choices": [{"message": {"content": f"I saw {self.headers['Authorization']}"}}]})
            case _:
                self.send(int(fault), {"error": {"message": f"bad: {self.headers['Authorization']}"}})

    def send(self, status: int, body: dict | list | str, headers: dict[str, str] | None = None, cut: int | None = None):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])
        self.close_connection = self.close_connection or cut is not None

    def log_message(self, format, *args):
        pass
