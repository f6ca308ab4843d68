"""Writing files so that a crash or a full disk leaves the old file or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from blsm.errors import FileError


def write_atomically(path: Path, content: bytes, error: type[FileError] = FileError, *, flush: bool = True) -> None:
    """Writes a file by way of a temporary one beside it.

    Args:
        path: the file.
        content: all of it.
        error: what to raise.
        flush: wait until it is on the disk: a power cut can't undo it then, whatever the file system.

    Raises:
        FileError: of class `error`, where the file can't be written; an older file of this name is left as it was.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as reason:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise error(f"cannot write {path}: {reason.strerror}; nothing was changed") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
