"""What BERT starts from: words, learned positions and token types, added up and normalised."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout, RandomSource
from npformer.embedding import Embeddings
from npformer.norm import LayerNorm
from npformer.shapes import check_count, check_equal, check_range, check_tokens, make_generator


class BertEmbeddings(Component):
    """What a BERT encoder starts from (Devlin et al. 2019, section 3.2 and figure 2).

        sum = word_embeddings[tokens] + position_embeddings[0..T-1] + token_type_embeddings[token_types]
        y   = dropout(norm(sum))

    Backward: grad_sum is grad_y taken back through dropout and norm. The sum forks it into three, and each item of the
    batch uses the same T positions, so that these get ``Σ_b grad_sum[b]``. Rows of the tables that are used more than
    once add up, as Embeddings says. Tokens and token types are integers and have no gradient (None).

    Parameters
    ----------
    d_model, vocab_size : int
        Size of a vector and number of tokens.
    max_len : int
        Number of positions.
    type_vocab_size : int
        Number of token types, such as first and second sentence.
    dropout : float
        Rate for the output, in [0, 1).
    eps : float
        Of the norm.
    rng : Generator, int or None
        The three tables are drawn from the standard normal distribution (BERT's own initial ones have deviation 0.02).

    `forward(tokens, token_types=None, rng=None)`: token types are 0 if not given; `backward` returns one None, or two
    where they were given. Shapes: tokens and token_types (batch, T), y (batch, T, d_model).

    Raises
    ------
    ValueError
        If T is above max_len, a token or token type is not in its table, or the two shapes differ.

    Examples
    --------
    >>> embeddings = BertEmbeddings(d_model=4, vocab_size=9, max_len=5, rng=0)
    >>> tokens = np.array([[3, 8, 3]])
    >>> embeddings(tokens).shape
    (1, 3, 4)
    >>> bool(np.array_equal(embeddings(tokens), embeddings(tokens, np.array([[0, 0, 0]]))))
    True
    """

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        max_len: int,
        type_vocab_size: int = 2,
        dropout: float = 0.1,
        eps: float = 1e-12,
        rng: np.random.Generator | int | None = None,
    ):
        for name, size in (("vocab_size", vocab_size), ("max_len", max_len), ("type_vocab_size", type_vocab_size)):
            check_count(name, size)
        norm, output_dropout = LayerNorm(d_model, eps), Dropout(dropout)
        rng = make_generator(rng)
        self.word_embeddings = Embeddings(d_model, vocab_size, scale=1, rng=rng)
        self.position_embeddings = Embeddings(d_model, max_len, scale=1, rng=rng)
        self.token_type_embeddings = Embeddings(d_model, type_vocab_size, scale=1, rng=rng)
        self.norm = norm
        self.dropout = output_dropout

    def forward(
        self, tokens: Array, token_types: Array | None = None, rng: RandomSource | None = None
    ) -> tuple[Array, Tree]:
        check_tokens("tokens", tokens, "batch, T")
        types = np.zeros_like(tokens) if token_types is None else self._checked_types(token_types, tokens)
        T, max_len = tokens.shape[1], len(self.position_embeddings.weight)
        if max_len < T:
            raise ValueError(f"tokens has T={T} positions, but this BertEmbeddings was built with max_len={max_len}")
        cache: Tree = {"has_token_types": token_types is not None}
        of_words, cache["word_embeddings"] = self.word_embeddings.forward(tokens)
        of_positions, cache["position_embeddings"] = self.position_embeddings.forward(np.arange(T)[None])
        of_types, cache["token_type_embeddings"] = self.token_type_embeddings.forward(types)
        normed, cache["norm"] = self.norm.forward(of_words + of_positions + of_types)
        output, cache["dropout"] = self.dropout.forward(normed, rng=rng)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[None, None] | None, Tree]:
        grads: Tree = {}
        grad_normed, grads["dropout"] = self.dropout.backward(grad_output, cache["dropout"])
        grad_sum, grads["norm"] = self.norm.backward(grad_normed, cache["norm"])
        _, grads["token_type_embeddings"] = self.token_type_embeddings.backward(
            grad_sum, cache["token_type_embeddings"]
        )
        _, grads["position_embeddings"] = self.position_embeddings.backward(
            grad_sum.sum(0, keepdims=True), cache["position_embeddings"]
        )
        _, grads["word_embeddings"] = self.word_embeddings.backward(grad_sum, cache["word_embeddings"])
        return ((None, None) if cache["has_token_types"] else None), grads

    def _checked_types(self, token_types: Array, tokens: Array) -> Array:
        check_tokens("token_types", token_types, "batch, T")
        check_equal("token_types", "shape", token_types.shape, "tokens", tokens.shape)
        check_range("token_types", token_types, 0, len(self.token_type_embeddings.weight) - 1)
        return token_types
