"""Pictures of attention weights over words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from npformer.component import Array
from npformer.plot.canvas import LABEL, SLIDE, SLIVER, TICK, add_colour_bar, new_figure, shown
from npformer.shapes import check_count, check_floats, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_HEADS, MOST_TOKENS = 32, 64  # with more of them the picture could not be read, nor soon held in memory
LINE = 0.165  # inches from one word to the next, as high as letters of 12 points
BESIDE, BELOW = 1.5, 0.5  # inches for the colour bar and the labels of the axes
HEADING, BAR, LABELLED = 0.75, 1.6, 2.8  # inches for "head 10", "attention weight" and "query (rows are queries)"
APART = (0.1, 0.28)  # inches from a panel to the next: to the right, and down, where the title is


def attention_weights(
    weights: Array, tokens: Sequence[str], keys: Sequence[str] | None = None, heads: Sequence[int] | None = None
) -> Figure:
    """Draw the attention weights of every head over words: a row for each query, a column for each key.

    Colours mean the same in all panels, from 0 to the largest weight drawn. No letter is below 12 points, and the
    figure is as large as they need: 12 heads over 11 words such as "because" fit a slide of 13.33 by 7.5 inches. With
    more or longer words, fewer heads do.

    Parameters
    ----------
    weights : real array (heads, T_q, T_k)
        As in the cache of ScaledDotProductAttention, for one sentence.
    tokens : list of str
        The T_q queries.
    keys : list of str, optional
        The T_k keys; the queries if not given, as in self-attention.
    heads : list of int, optional
        Which heads are drawn, in this order, each under its number; all if not given.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If weights have other axes, or negative or infinite entries; if words are no str or not as many as weights; if
        heads are no indices, or one comes twice; or if there are more than 32 heads or 64 words to be drawn.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    The heads of the third layer of a trained model over the words of a sentence:

    >>> from npformer.oracle import load_bert
    >>> bert = load_bert()
    >>> tokens, mask = bert.encode(["The cat sat down because it was tired."])
    >>> words = [bert.tokenizer.id_to_token(token) for token in tokens[0]]
    >>> _, cache = bert.encoder.forward(tokens, mask=mask)
    >>> layer = cache["encoder"]["layers"]["2"]
    >>> figure = attention_weights(layer["self_attn"]["sublayer"]["attention"]["weights"][0], words)
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['[CLS]', 'the', 'cat', 'sat', 'down', 'because', 'it', 'was', 'tired', '.', '[SEP]']
    """
    check_floats("weights", weights, "heads, T_q, T_k")
    if weights.dtype.kind == "c":
        raise TypeError(f"weights must be float32 or float64, but its dtype is {weights.dtype}")
    chosen = _check_heads(heads, len(weights))
    T_q, T_k = weights.shape[1:]
    if len(chosen) > MOST_HEADS:
        raise ValueError(
            f"heads must be at most {MOST_HEADS} to be readable, but {len(chosen)} are to be drawn; "
            "choose some, such as heads=range(8)"
        )
    if max(T_q, T_k) > MOST_TOKENS:
        raise ValueError(
            f"weights must have at most {MOST_TOKENS} tokens to be readable, but its shape is {weights.shape}; "
            "a part such as weights[:, :8, :8] can be drawn"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative, but some are")
    _check_words("tokens", tokens, T_q)
    if keys is None and T_q != T_k:
        raise ValueError(f"keys must be given where T_k={T_k} differs from T_q={T_q}, but it is None")
    keys = tokens if keys is None else keys
    _check_words("keys", keys, T_k)
    queries, keys = [shown(word) for word in tokens], [shown(word) for word in keys]
    square = 1 / SLIVER <= T_q / T_k <= SLIVER
    figure = new_figure()
    figure.set_layout_engine("compressed" if square else "constrained", hspace=0)
    columns, size = _arrange(len(chosen), queries, keys, square)
    figure.set_size_inches(size)
    rows = math.ceil(len(chosen) / columns)
    panels: list[Axes] = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    largest = weights[chosen].max() or 1.0  # all 0: any other end of the scale will do
    shape: Literal["equal", "auto"] = "equal" if square else "auto"
    for place, (head, panel) in enumerate(zip(chosen, panels, strict=False)):
        image = panel.imshow(weights[head], cmap="viridis", vmin=0, vmax=largest, interpolation="nearest", aspect=shape)
        panel.set_title(f"head {head}", fontsize=TICK, pad=3)
        panel.set_xticks(range(T_k), keys, fontsize=TICK, rotation=90, parse_math=False)
        panel.set_yticks(range(T_q), queries, fontsize=TICK, parse_math=False)
        lowest, leftmost = place + columns >= len(chosen), place % columns == 0
        panel.tick_params(bottom=lowest, labelbottom=lowest, left=leftmost, labelleft=leftmost)
    for panel in panels[len(chosen) :]:
        panel.remove()
    add_colour_bar(figure, image, panels[: len(chosen)], "attention weight")
    figure.supylabel("query (rows are queries)", fontsize=LABEL)
    figure.supxlabel("key (columns are keys)", fontsize=LABEL)
    figure.draw_without_rendering()  # the layout settles in two draws, of which saving is the second
    return figure


def _check_heads(heads: Sequence[int] | None, count: int) -> list[int]:
    """Return the indices of the heads to be drawn."""
    if heads is None:
        return list(range(count))
    if not isinstance(heads, Sequence):
        raise TypeError(f"heads must be a list of whole numbers, but it is {describe(heads)}")
    chosen = [check_count(f"heads[{index}]", head, least=0) for index, head in enumerate(heads)]
    if not chosen:
        raise ValueError("heads must have at least one entry, but it is empty")
    for index, head in enumerate(chosen):
        if head >= count:
            raise ValueError(f"heads must lie in 0..{count - 1}, but {head} is among them")
        if head in chosen[:index]:
            raise ValueError(f"heads must differ, but {head} is twice among them")
    return chosen


def _check_words(name: str, words: Sequence[str], count: int) -> None:
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise TypeError(f"{name} must be a list of str, but it is {describe(words)}")
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(f"{name}[{index}] must be a str, but it is {describe(word)}")
    if len(words) != count:
        raise ValueError(f"{name} must be as many as weights has, {count}, but they are {len(words)}")


def _arrange(heads: int, queries: Sequence[str], keys: Sequence[str], square: bool) -> tuple[int, tuple[float, float]]:
    """Return the number of columns and the size of the figure for which words are largest on a slide, and apart."""
    beside, below = BESIDE + _longest(queries), BELOW + _longest(keys)
    least = max(LINE, HEADING / len(keys)) if square else LINE

    def line(columns: int) -> float:
        """How many inches words are apart: as many as a slide has room for, but never less than their own height."""
        across = ((SLIDE[0] - beside) / columns - APART[0]) / len(keys)
        down = ((SLIDE[1] - below) / math.ceil(heads / columns) - APART[1]) / len(queries)
        return max(least, min(across, down))

    def size(columns: int) -> tuple[float, float]:
        across, down = max(HEADING, line(columns) * len(keys)), line(columns) * len(queries)
        rows = math.ceil(heads / columns)
        within = _longest(keys) if rows * columns > heads > columns else 0.0  # keys under the last row but one
        height = below + max(BAR, rows * (APART[1] + down) + within)
        return beside + columns * (APART[0] + across), max(LABELLED, height)

    def shrinks(columns: int) -> float:
        """What the figure is multiplied by until a slide holds it, rounded since sizes that fit are a slide's."""
        return round(min(1, *(slide / side for slide, side in zip(SLIDE, size(columns), strict=True))), 6)

    columns = max(range(1, heads + 1), key=lambda columns: (shrinks(columns), line(columns)))
    return columns, size(columns)


def _longest(words: Sequence[str]) -> float:
    """Return the width of the longest word in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=TICK)
    return max(text_to_path.get_text_width_height_descent(word, font, False)[0] for word in words) / 72
