"""Being asked to end: by Ctrl-C, by a service manager, by a terminal that is closed."""

import contextlib
import os
import signal
import stat
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def unwind_when_asked() -> None:
    """Have a request to end raise KeyboardInterrupt, so that what is under way is ended, too.

    A signal that is ignored from the start, as by nohup, stays ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _unwind)


def _unwind(number: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        # A second one would cut short the taking down that the first one asks for.
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGHUP:
        _let_the_terminal_go()
    raise KeyboardInterrupt


def _let_the_terminal_go() -> None:
    """Write to nowhere from now on: to write to a closed terminal is an error."""
    with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        for stream in (sys.__stdout__, sys.__stderr__):
            # isatty() says no of a terminal that is closed.
            if stream and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                os.dup2(nowhere.fileno(), stream.fileno())
