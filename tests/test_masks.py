"""Masks: 1 = may attend; rows are queries, columns keys."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npformer import length_mask, padding_mask, subsequent_mask


def test_subsequent_mask_is_the_lower_triangle() -> None:
    assert subsequent_mask(5).tolist() == [
        [
            [1, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1],
        ]
    ]
    assert subsequent_mask(5).dtype == np.uint8


@given(size=st.integers(1, 20))
def test_a_query_may_attend_to_a_key_that_is_not_after_it(size: int) -> None:
    mask = subsequent_mask(size)
    assert all(mask[0, query, key] == (key <= query) for query in range(size) for key in range(size))


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_the_length_mask_is_the_padding_mask_of_such_sentences(lengths: list[int]) -> None:
    tokens = np.array([[7] * length + [0] * (6 - length) for length in lengths])
    mask = length_mask(np.array(lengths), 6)
    assert mask.shape == (len(lengths), 1, 1, 6)
    assert np.array_equal(mask, padding_mask(tokens))
    assert np.array_equal(mask, padding_mask(tokens - 9, pad=-9))


def test_masks_combine_with_and() -> None:
    both = subsequent_mask(3) & length_mask(np.array([2, 3]), 3)
    assert both.shape == (2, 1, 3, 3)
    assert both[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
