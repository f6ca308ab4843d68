"""Keeping the screen clean of compilers that print."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def off_the_screen() -> Iterator[None]:
    """Drops what is printed inside, from Python and, past `sys.stdout`, from C++."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        kept, handlers = (os.dup(1), os.dup(2)), logging.root.handlers[:]
        try:
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            yield
        finally:
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
            # A handler that was made inside writes to a file that is about to close, what comes later too.
            logging.root.handlers[:] = handlers
