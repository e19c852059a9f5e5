"""gunicorn's configuration for every server that is measured: the production file with two changes.

Each worker's connections carry its process id in their name, so that they can be counted by
process. Comparators skip the product's preparation at start.
"""

import os
from typing import Any

from orgmgmt import gunicorn as production

globals().update({name: value for name, value in vars(production).items() if name[:1] != "_"})
_post_fork = getattr(production, "post_fork", None)


def on_starting(server: Any) -> None:
    """As in production; does nothing for a comparator."""
    if os.environ["DJANGO_SETTINGS_MODULE"] == "orgmgmt.settings":
        production.on_starting(server)


def post_fork(server: Any, worker: Any) -> None:
    """Name the worker's connections. libpq reads the variable at each connect."""
    os.environ["PGAPPNAME"] = f"{os.environ.get('PGAPPNAME', 'bench')}.{os.getpid()}"
    if _post_fork is not None:
        _post_fork(server, worker)
