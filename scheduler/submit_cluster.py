"""A cluster as seen through its dashboard: submitting jobs to it, looking at them, their logs, stopping them.

Over Ray Jobs' REST client. Whatever goes wrong there is a SubmissionError that says what to do; the first question is
bounded in time, since a wrong address often answers with silence.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apportion.errors import SubmissionError
from apportion.scheduler.plain import masked

LEAST_RAY = "2.50"
"""As pyproject.toml says; older clusters run other code than apportion was tested with."""
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0
"""For the first question: a dashboard on a busy head takes seconds."""

_TOKEN_ADVICE = (
    "the token is read from RAY_AUTH_TOKEN, from the file that RAY_AUTH_TOKEN_PATH names, or from ~/.ray/auth_token; "
    "`ray get-auth-token` on the cluster's head shows the right one"
)
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Ray's loggers that tell of every upload and connection, unasked."""
_OUTPUT, _CONFIG = "apportion_output", "apportion_config"


@dataclass(frozen=True, slots=True)
class JobState:
    """One job on a cluster. `status` is Ray's word; times are seconds since 1970; `exit_code` is the driver's.

    `output` and `config` are None for a job that apportion did not submit.
    """

    id: str
    status: str
    message: str | None
    exit_code: int | None
    started_s: float | None
    ended_s: float | None
    output: str | None
    config: str | None

    @property
    def ended(self) -> bool:
        """Whether its status is final."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


class Cluster:
    """The jobs of one cluster. Raises SubmissionError, as every method does, where it is none or refuses."""

    def __init__(self, address: str | None) -> None:
        """`address` is the dashboard's URL; None takes RAY_API_SERVER_ADDRESS, RAY_ADDRESS or this machine's Ray."""
        self.url = find_dashboard(address)
        headers = _token_headers()
        _probe(self.url, headers)
        from ray.job_submission import JobSubmissionClient

        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        with _asking(self.url), _without_addresses():
            self._client = JobSubmissionClient(self.url, headers=headers)

    def submit(self, job_id: str, entrypoint: str, runtime_env: Mapping[str, Any], output: str, config: str) -> None:
        """Upload what the runtime_env names and start the job."""
        with _asking(self.url):
            self._client.submit_job(
                submission_id=job_id,
                entrypoint=entrypoint,
                runtime_env=dict(runtime_env),
                metadata={_OUTPUT: output, _CONFIG: config},
            )

    def state(self, job_id: str) -> JobState:
        """How a job stands."""
        with _asking(self.url, job_id):
            return _state(self._client.get_job_info(job_id))

    def jobs(self) -> list[JobState]:
        """The submitted jobs that the cluster remembers, the latest last."""
        with _asking(self.url):
            found = [_state(one) for one in self._client.list_jobs() if one.submission_id]
        return sorted(found, key=lambda one: one.started_s or 0.0)

    def logs(self, job_id: str) -> str:
        """All that a job has printed."""
        with _asking(self.url, job_id):
            return str(self._client.get_job_logs(job_id))

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """What a job has printed and prints, until it ends."""
        with _asking(self.url, job_id):
            async for text in self._client.tail_job_logs(job_id):
                yield text

    def stop(self, job_id: str) -> None:
        """Ask a job to end; `state` shows when it has."""
        with _asking(self.url, job_id):
            self._client.stop_job(job_id)


def find_dashboard(address: str | None) -> str:
    """The dashboard's URL for an address as a user gives it; the environment's, or this machine's, where it is None."""
    given = address or next((os.environ[name] for name in ADDRESS_VARIABLES if os.environ.get(name)), None)
    if given is not None and "://" in given:
        if given.startswith(("http://", "https://")):
            return given.rstrip("/")
        raise SubmissionError(f"--address: {masked(given)} is no dashboard; give its URL, for example http://HOST:8265")
    if address is not None and address != "auto":
        raise SubmissionError(
            f"--address: {address!r} is no URL; write http://{address} for the dashboard at that port"
        )
    from ray.dashboard.utils import get_address_for_submission_client
    from ray.exceptions import AuthenticationError, RayError

    where = f"at {masked(given)}" if given is not None else "on this machine"
    try:
        return str(get_address_for_submission_client(given))
    except AuthenticationError as error:
        # Ray's own lookup sends a token only where RAY_AUTH_MODE asks for it; the dashboard is always sent it.
        raise SubmissionError(
            f"the Ray cluster {where} asks for a token before it tells where its dashboard is; give that, for example "
            f"--address http://HOST:8265, or set RAY_AUTH_MODE=token; {_TOKEN_ADVICE}"
        ) from error
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise SubmissionError(
            f"no running Ray cluster was found {where} ({_last_line(error)}); give its dashboard, for example "
            "--address http://HOST:8265"
        ) from error


def _token_headers() -> dict[str, str]:
    """The header that carries the token, from where Ray looks for it; empty where there is none.

    Ray's own client sends a token only where RAY_AUTH_MODE asks for it, though a cluster asks for one by default.
    """
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token:
        named = os.environ.get("RAY_AUTH_TOKEN_PATH")
        file = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
        try:
            token = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if named:
                raise SubmissionError(f"RAY_AUTH_TOKEN_PATH: {file} is no file; {_TOKEN_ADVICE}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SubmissionError(
                f"the token in {file} cannot be read ({_last_line(error)}); {_TOKEN_ADVICE}"
            ) from error
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise SubmissionError(f"the token holds characters that no HTTP header can; {_TOKEN_ADVICE}")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _probe(url: str, headers: Mapping[str, str]) -> None:
    """Ask who answers, within bounded time: a Ray dashboard, of a version that will do, that takes our token."""
    import requests

    shown = masked(url)
    try:
        answer = requests.get(f"{url}/api/version", headers=dict(headers), timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
    except requests.exceptions.Timeout as error:
        raise SubmissionError(
            f"nothing answered at {shown} within {CONNECT_SECONDS + ANSWER_SECONDS:g} s; is it the head's address, and "
            "may this machine reach its dashboard's port (8265)? Through ssh: ssh -L 8265:localhost:8265 HEAD"
        ) from error
    except requests.exceptions.SSLError as error:
        raise SubmissionError(
            f"{shown} does not speak TLS as this machine trusts it ({_last_line(error)}); use http://, or name its "
            "certificates in REQUESTS_CA_BUNDLE"
        ) from error
    except (requests.exceptions.RequestException, ValueError) as error:
        raise SubmissionError(
            f"no dashboard answers at {shown} ({type(error).__name__}); start the cluster, or give --address "
            "http://HOST:8265 of its head (one that others may reach is started with --dashboard-host=0.0.0.0)"
        ) from error
    if answer.status_code in (401, 403):
        raise SubmissionError(_refused(url, bool(headers)))
    try:
        version = str(answer.json()["ray_version"]) if answer.ok else None
    except (ValueError, TypeError, KeyError):
        version = None
    if version is None:
        raise SubmissionError(
            f"what answers at {shown} is no Ray dashboard ({answer.status_code} for /api/version); give the address "
            "that `ray start --head` shows, usually http://HOST:8265"
        )
    _check_version(version, shown)


def _check_version(version: str, shown: str) -> None:
    from packaging.version import InvalidVersion, Version

    try:
        old = Version(version) < Version(LEAST_RAY)
    except InvalidVersion:
        old = False  # a build of one's own, named freely
    if old:
        raise SubmissionError(
            f"the cluster at {shown} runs Ray {version}, but apportion needs at least {LEAST_RAY}; upgrade Ray there"
        )


@contextmanager
def _without_addresses() -> Iterator[None]:
    """Ray lets its variables overrule the address it is given; here the one that was found is meant."""
    hidden = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _asking(url: str, job_id: str | None = None) -> Iterator[None]:
    """What the client raises, as a SubmissionError with the next step."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    shown = masked(url)
    try:
        yield
    except AuthenticationError as error:
        raise SubmissionError(_refused(url, True)) from error
    except (requests.exceptions.RequestException, ConnectionError, aiohttp.ClientError, TimeoutError) as error:
        raise SubmissionError(
            f"the dashboard at {shown} stopped answering ({type(error).__name__}: {_last_line(error)}); a job that was "
            "submitted goes on: look again with `apportion status`"
        ) from error
    except (RuntimeError, ValueError) as error:
        if job_id is not None and "status code 404" in str(error):
            raise SubmissionError(
                f"no job {job_id!r} on the cluster at {shown}; `apportion status` lists those it remembers"
            ) from error
        raise SubmissionError(f"the cluster at {shown} refused: {_last_line(error)}") from error


def _refused(url: str, had_token: bool) -> str:
    what = "does not accept the token it was sent" if had_token else "asks for a token, and none was found"
    return f"the cluster at {masked(url)} {what}; {_TOKEN_ADVICE}"


def _state(details: Any) -> JobState:
    metadata = details.metadata or {}
    return JobState(
        id=str(details.submission_id),
        status=str(details.status),
        message=details.message,
        exit_code=details.driver_exit_code,
        started_s=details.start_time / 1000 if details.start_time else None,
        ended_s=details.end_time / 1000 if details.end_time else None,
        output=metadata.get(_OUTPUT),
        config=metadata.get(_CONFIG),
    )


def _last_line(error: BaseException) -> str:
    """The last line that says something: Ray answers with whole tracebacks, which end in their reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    return masked(lines[-1]) if lines else type(error).__name__
