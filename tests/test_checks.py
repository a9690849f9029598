"""Checks and messages that many modules share."""

import numpy as np
import pytest
from gymnasium import spaces

from sb3_latent.checks import in_one_line


@pytest.mark.parametrize("n", [1, 3, 8, 200])
def test_a_value_is_one_line_of_limited_width(n):
    box = spaces.Box(-np.arange(1.0, n + 1), np.arange(1.0, n + 1), dtype=np.float64)
    text = in_one_line(box)
    assert len(text) <= 160 and "\n" not in text
    assert text.startswith("Box(") and text.endswith(f"({n},), float64)")
    assert (" ... " in text) == (n == 200)
