"""Storage formats: rounding to nearest, ties to even, and the distance of neighbours."""

import numpy as np
import pytest

from npformer.oracle.rounding import FORMATS


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_spacing_is_that_of_numpy(name: str) -> None:
    values = np.array([1.0, 1.5, 1 - 2.0**-12, 3.0, 1e-7, 1e-3, 60000.0, -5.0]).astype(name)
    for value in values:
        assert FORMATS[name].spacing(float(value)) == abs(float(np.spacing(value)))


def test_bfloat16_has_eight_digits_and_ties_go_to_even() -> None:
    step = 2.0**-7
    values = np.array([1 + step / 2, 1 + 3 * step / 2, 1 + 0.51 * step, -1 - step / 2, 0.0])
    rounded = FORMATS["bfloat16"].round(values)
    np.testing.assert_array_equal(rounded, [1, 1 + 2 * step, 1 + step, -1, 0])


def test_bfloat16_has_fewer_digits_below_the_normal_numbers() -> None:
    smallest = 2.0**-133
    values = smallest * np.array([0.5, 0.51, 1.5, 2.4, 3.5])
    np.testing.assert_array_equal(FORMATS["bfloat16"].round(values) / np.float32(smallest), [0, 1, 2, 2, 4])


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_is_within_the_unit_and_repeats_itself(name: str) -> None:
    storage = FORMATS[name]
    values = np.random.default_rng(0).standard_normal(1000)
    rounded = storage.round(values).astype(np.float64)
    assert (np.abs(rounded - values) <= storage.unit * np.abs(values)).all()
    np.testing.assert_array_equal(storage.round(rounded), rounded)
