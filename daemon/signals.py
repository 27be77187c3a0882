"""What a person or systemd tells the daemon by signals: SIGTERM and SIGINT to stop, SIGHUP to reread its settings."""

import signal
import threading


class Signals:
    """Handlers only set flags; the main loop acts on them."""

    def __init__(self) -> None:
        self.stop = ""
        self.reload = False
        self._woken = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes or the time is up."""
        self._woken.wait(seconds)
        self._woken.clear()

    def _on_stop(self, number: int, _frame: object) -> None:
        self.stop = signal.Signals(number).name
        self._woken.set()

    def _on_reload(self, _number: int, _frame: object) -> None:
        self.reload = True
        self._woken.set()
