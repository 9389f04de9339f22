"""Names for the arrays that travel between the modules."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Codes: TypeAlias = npt.NDArray[np.integer]
Floats: TypeAlias = npt.NDArray[np.floating]
Labels: TypeAlias = npt.NDArray[np.str_]
# A float array or a CSR matrix, or blocks of one (`_blocks`) where that is said; scipy comes without types.
Matrix: TypeAlias = Any
