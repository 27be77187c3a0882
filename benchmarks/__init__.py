"""One command a figure: `python -m benchmarks.NAME`."""

from adapterd.daemon.environment import KEPT_SHAPES, set_unless_told, share_arenas

# As the daemon's processes have it, or a cell that runs for an hour would hold gigabytes of compiled shapes.
set_unless_told(KEPT_SHAPES)
share_arenas()
