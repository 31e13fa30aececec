"""One bug at every named site of a two-layer encoder, forward and backward: the comparison names that site."""

from collections.abc import Callable

import numpy as np
import pytest

from npformer import length_mask, make_encoder
from npformer.component import Array, Component
from npformer.oracle import Expected, compare, expect
from npformer.oracle.comparison import Origin
from npformer.oracle.recorder import Passage
from npformer.oracle.trace import Recording

SHARE = 3e-3  # of the root mean square of an array, in one entry
NOTHING = 1e-10  # a gradient of this size is 0 in truth, as that of a key bias


class Bug(Passage):
    """One array that is changed as soon as it is made."""

    def __init__(self, site: str, change: Callable[[Array], Array]):
        self.site, self.change = site, change

    def out(self, component: Component, name: str, array: Array) -> Array:
        return self.change(array).astype(array.dtype) if name == self.site else array


def two_layers(norm_first: bool) -> tuple[Expected, Recording]:
    """Return what is expected, and the same in float32."""
    encoder = make_encoder(2, 8, 2, 16, norm_first=norm_first, activation="gelu", rng=0)
    x, grad_output = np.random.default_rng(1).standard_normal((2, 2, 5, 8))
    mask = length_mask(np.array([5, 3]), 5)
    expected = expect(encoder, x, grad_output=grad_output, mask=mask, rng=np.random.default_rng(2))
    clean = expected.recording
    assert clean.grad_output is not None
    inputs = tuple(array.astype(np.float32) for array in clean.inputs)
    theirs = Recording(clean.component.astype(np.float32), inputs, clean.options, clean.grad_output.astype(np.float32))
    return expected, theirs


def changes(expected: Expected, site: str) -> list[Callable[[Array], Array]]:
    """Return an error of one entry, and one of all."""
    truth = expected.truth[site]
    which = expected.compared.get(site, np.ones(truth.shape, bool))
    size = float(np.sqrt(np.mean(truth[which] ** 2)))
    index = np.unravel_index(np.argmax(np.where(which, np.abs(truth), -1)), truth.shape)

    def one_entry(array: Array) -> Array:
        array = array.copy()
        array[index] += SHARE * size if size > NOTHING else 1e-3
        return array

    return [one_entry, (lambda array: 0.5 * array) if size > NOTHING else one_entry]


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_site_of_a_bug_is_named(norm_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npformer.oracle.tolerance.RUNS", 5)  # for speed: tolerances are ten times the usual error
    expected, theirs = two_layers(norm_first)
    assert compare(theirs.trace, expected).passed
    assert len(expected.tolerances) > 120
    for number, site in enumerate(expected.tolerances):
        change = changes(expected, site)[number % 2]
        comparison = compare(theirs.rerun(Bug(site, change)), expected)
        first = comparison.first_wrong
        assert first is not None, site
        assert (first.name, first.origin) == (site, Origin.HERE), site
        assert [row.name for row in comparison.rows if row.origin == Origin.HERE] == [site]
