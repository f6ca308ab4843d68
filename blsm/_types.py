"""Types used all over."""

from typing import Any

import numpy.typing as npt

#: A numpy array; docstrings say its element type and shape.
Array = npt.NDArray[Any]
