"""Connecting to Ray, or starting it on this machine for the time of a job."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence

from apportion.actors.placement import Need, local_cpus
from apportion.errors import CapacityError

LOCAL = "local"


def connect(cluster: str, needs: Sequence[Need] = ()) -> bool:
    """Connect this process to Ray; True where this call did it and `disconnect` should undo it.

    `local` starts Ray here, with enough logical CPUs for `needs`; it ends with this process, however that ends
    (after a kill -9 two of Ray's agents look for their server for about a minute before they go too).
    `auto` and `HOST:PORT` join a cluster. A process that is connected stays where it is. CapacityError where there is
    no cluster to join.
    """
    import ray

    if ray.is_initialized():
        return False
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if cluster == LOCAL:
            ray.init(
                address="local",
                num_cpus=local_cpus(needs),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=cluster, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise CapacityError(
            f"cluster: no Ray cluster answers at {cluster!r} ({type(error).__name__}: {error}); "
            "use `local` to start one here, or `auto` or HOST:PORT of one that runs; a cluster that asks for a token "
            "wants it in RAY_AUTH_TOKEN or in the file RAY_AUTH_TOKEN_PATH names"
        ) from error
    finally:
        # Ray's own handler ends the process in the middle of whatever it does.
        if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)
    return True


def disconnect() -> None:
    """Leave the cluster; one that was started here stops."""
    import ray

    ray.shutdown()
