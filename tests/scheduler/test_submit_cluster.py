"""Addresses that are no cluster, or one that refuses: named, in bounded time, with the next step."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray.dashboard.utils
from ray.exceptions import AuthenticationError

from apportion.errors import SubmissionError
from apportion.scheduler import submit_cluster
from apportion.scheduler.submit_cluster import LEAST_RAY, Cluster, find_dashboard

VERSION = json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "s"})


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def server(status: int, body: str, seen: list[str | None] | None = None) -> Iterator[str]:
    """Answers every request alike; `seen` collects the Authorization headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, "<html>welcome</html>", r"what answers at http://127.0.0.1:\d+ is no Ray dashboard \(200"),
        (404, "nothing", r"no Ray dashboard \(404 .*http://HOST:8265"),
        (200, "[]", r"no Ray dashboard"),
        (200, '{"version": 3}', r"no Ray dashboard"),
        (502, VERSION, r"no Ray dashboard \(502"),
        (401, "", r"asks for a token, and none was found; .*RAY_AUTH_TOKEN_PATH.*~/.ray/auth_token"),
        (200, VERSION.replace("2.60.0", "2.9.3"), rf"runs Ray 2.9.3, but apportion needs at least {LEAST_RAY}"),
    ],
)
def test_what_is_no_cluster_of_ours_is_said_to_be_none(status: int, body: str, message: str) -> None:
    with server(status, body) as url, pytest.raises(SubmissionError, match=message):
        Cluster(url)


@pytest.mark.parametrize("source", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "file"])
def test_the_token_is_sent_from_wherever_ray_keeps_it_and_never_shown(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".ray" / "auth_token" if source == "file" else tmp_path / "token"
    file.parent.mkdir(exist_ok=True)
    file.write_text("s3cret-token\n")
    if source != "file":
        monkeypatch.setenv(source, "s3cret-token" if source == "RAY_AUTH_TOKEN" else str(file))
    seen: list[str | None] = []
    with server(403, "", seen) as url, pytest.raises(SubmissionError, match=r"does not accept the token") as refused:
        Cluster(url)
    assert seen == ["Bearer s3cret-token"]
    assert "s3cret" not in str(refused.value)


def test_a_named_token_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "gone"))
    with server(200, VERSION) as url, pytest.raises(SubmissionError, match=r"RAY_AUTH_TOKEN_PATH: .*gone is no file"):
        Cluster(url)


def test_a_port_where_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SubmissionError, match=r"no dashboard answers at .*--dashboard-host=0.0.0.0"):
            Cluster(url)


def test_a_host_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_cluster, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SubmissionError, match=r"nothing answered at .* within .*ssh -L"):
            Cluster(url)


def test_passwords_in_an_address_are_not_shown() -> None:
    with pytest.raises(SubmissionError) as refused:
        Cluster("http://me:hunter2@127.0.0.1:1")
    assert "hunter2" not in str(refused.value)


def test_a_cluster_that_is_found_and_refuses_is_not_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str | None) -> str:
        raise AuthenticationError("Unauthenticated")

    monkeypatch.setattr(ray.dashboard.utils, "get_address_for_submission_client", refuse)
    with pytest.raises(SubmissionError, match=r"cluster on this machine asks for a token .*--address http.*RAY_AUTH_"):
        find_dashboard(None)


def test_addresses_as_users_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_dashboard("http://head:8265/") == "http://head:8265"
    with pytest.raises(SubmissionError, match=r"'head:8265' is no URL; write http://head:8265"):
        find_dashboard("head:8265")
    with pytest.raises(SubmissionError, match=r"ray://head:10001 is no dashboard; give its URL"):
        find_dashboard("ray://head:10001")
    monkeypatch.setenv("RAY_ADDRESS", "http://second:8265")
    assert find_dashboard(None) == "http://second:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://first")
    assert find_dashboard(None) == "https://first"
    assert find_dashboard("http://given:8265") == "http://given:8265"
