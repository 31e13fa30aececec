"""The floor is exactly the matrix products of a step."""

import numpy as np
import pytest

from npformer.bench.floor import Floor, Product
from npformer.bench.sizes import Size

SIZE = Size(batch=2, T=3, d_model=20, num_heads=5, d_ff=7)  # all different, so that no two axes can be confused


def flops(products: list[Product]) -> int:
    return sum(2 * product.out.size * product.left.shape[-1] for product in products)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_products_are_as_many_and_as_large_as_those_of_the_formulas(num_layers: int) -> None:
    size = Size(2, 3, 20, 5, 7, num_layers)
    floor = Floor(size, np.float64)
    # a token: four projections and two linear maps of the network; a pair of tokens: its score, and its weight's share
    forward = num_layers * (2 * 3 * (4 * 2 * 20 * 20 + 2 * 2 * 20 * 7) + 2 * 3 * 3 * (2 * 20 + 2 * 20))
    assert flops(floor.products_forward) == forward
    assert flops(floor.products_backward) == 2 * forward
    assert (len(floor.products_forward), len(floor.products_backward)) == (8 * num_layers, 16 * num_layers)


def test_the_shapes_are_those_of_the_step() -> None:
    floor = Floor(SIZE, np.float32)
    heads, scores = (2, 5, 3, 4), (2, 5, 3, 3)
    forward = [(6, 20)] * 3 + [scores, heads] + [(6, 20), (6, 7), (6, 20)]
    assert [product.out.shape for product in floor.products_forward] == forward
    weights = {(20, 20): 4, (7, 20): 1, (20, 7): 1}
    inputs = {(6, 20): 5, (6, 7): 1, heads: 3, scores: 1}
    shapes = [product.out.shape for product in floor.products_backward]
    assert {shape: shapes.count(shape) for shape in shapes} == weights | inputs
    assert {array.dtype for product in floor.products_backward for array in product} == {np.dtype(np.float32)}


def test_forward_and_backward_compute_every_product() -> None:
    floor = Floor(SIZE, np.float64)
    for product in floor.products_forward + floor.products_backward:
        product.out[...] = np.nan
    floor.forward()
    assert all((product.out == product.left @ product.right).all() for product in floor.products_forward)
    assert all(np.isnan(product.out).all() for product in floor.products_backward)
    for product in floor.products_forward:
        product.out[...] = np.nan
    floor.forward_backward()
    products = floor.products_forward + floor.products_backward
    assert all((product.out == product.left @ product.right).all() for product in products)


def test_no_result_is_an_operand_so_that_numbers_do_not_grow_from_round_to_round() -> None:
    floor = Floor(SIZE, np.float64)
    products = floor.products_forward + floor.products_backward
    operands = [array for product in products for array in (product.left, product.right)]
    assert not any(np.shares_memory(product.out, operand) for product in products for operand in operands)
