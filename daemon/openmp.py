"""How the threads of a process wait for each other: environment variables that torch reads when it is loaded."""

import os
from collections.abc import Mapping
from typing import Final

SERVING: Final = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"}
"""For the daemon: threads must soon sleep, since serving and training share the cores. One stream beside other work had
0.5 tokens a second spinning, 4.2 sleeping, on two cores. Some thousand turns (GNU's runtime counts them) last from one
product of a step to the next."""

TRAINING: Final = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""For what trains beside a daemon: by default OpenMP's threads spin, and where serving takes a core from a nice process
they spin for a thread that does not run: a step took ten times as long beside one other busy process. A thousand turns
save much of the waking where both cores are free."""


def set_unless_told(values: Mapping[str, str]) -> None:
    """Set what this process's environment does not say already; before torch is loaded, or it comes too late."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
