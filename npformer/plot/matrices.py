"""Pictures of matrices: masks, attention weights over words, positional encodings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from npformer.component import Array
from npformer.embedding import PositionalEncoding
from npformer.plot.canvas import BLUE, LABEL, SLIDE, TICK, add_colour_bar, dress_legend, new_figure, say
from npformer.shapes import check_count, check_floats, check_mask, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIDDEN = "#ECECEC"
SLIVER = 3  # the ratio of sides above which cells are no squares
MOST_HEADS, MOST_TOKENS = 32, 64  # with more of them the picture could not be read, nor soon held in memory
LONGEST = 24  # letters of a word; the others are cut off
LINE, LETTER = 0.19, 0.1  # inches from one word to the next, and the width of a letter
BESIDE, BELOW = 1.5, 0.5  # inches for the colour bar and the labels of the axes
APART = (0.15, 0.35)  # inches from a panel to the next: to the right, and down, where the title is


def mask(mask: Array) -> Figure:
    """Draw who may attend to whom: a row for each query, the first on top, and a column for each key.

    Parameters
    ----------
    mask : integer or boolean array (T_q, T_k)
        Nonzero = may attend, as everywhere in npformer. Further axes in front must have length 1, as in
        ``subsequent_mask(20)``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If it is no array of integers or booleans.
    ValueError
        If it is not one matrix.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from npformer import subsequent_mask
    >>> figure = mask(subsequent_mask(20))
    >>> figure.axes[0].get_ylabel()
    'query position (rows are queries)'
    """
    allowed = check_mask(mask, getattr(mask, "shape", ()))
    if allowed.ndim < 2 or allowed.size == 0 or math.prod(allowed.shape[:-2]) != 1:
        raise ValueError(f"mask must have the axes (T_q, T_k), or (1, T_q, T_k), but its shape is {allowed.shape}")
    figure = new_figure(layout="compressed")
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    T_q, T_k = allowed.shape[-2:]
    matrix = allowed.reshape(T_q, T_k).astype(np.uint8)
    shape: Literal["equal", "auto"] = "equal" if 1 / SLIVER <= T_q / T_k <= SLIVER else "auto"
    colours = ListedColormap([HIDDEN, BLUE])
    axes.imshow(matrix, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect=shape)
    say(axes, "Attention mask", "key position (columns are keys)", "query position (rows are queries)")
    for axis, size in ((axes.xaxis, T_k), (axes.yaxis, T_q)):
        axis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
        if max(T_q, T_k) <= MOST_TOKENS:  # with more of them the cells would vanish between the lines
            axis.set_ticks(np.arange(1, size) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    patches = [Patch(color=BLUE, label="1 = may attend"), Patch(color=HIDDEN, label="0 = may not attend")]
    dress_legend(axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1, 1)))
    return figure


def attention_weights(weights: Array, tokens: Sequence[str], keys: Sequence[str] | None = None) -> Figure:
    """Draw the attention weights of every head over words: a row for each query, a column for each key.

    Colours mean the same in all panels, from 0 to the largest weight. Above about 6 words of 12 heads the figure is
    larger than a slide, so that the words stay readable.

    Parameters
    ----------
    weights : real array (heads, T_q, T_k)
        As in the cache of ScaledDotProductAttention, for one sentence; at most 32 heads and 64 words.
    tokens : list of str
        The T_q queries.
    keys : list of str, optional
        The T_k keys; the queries if not given, as in self-attention.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If weights have other axes, too many entries to be read, or negative or infinite ones; or if words are no str
        or not as many as weights.
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
    heads, T_q, T_k = weights.shape
    if heads > MOST_HEADS or max(T_q, T_k) > MOST_TOKENS:
        raise ValueError(
            f"weights must have at most {MOST_HEADS} heads and {MOST_TOKENS} tokens to be readable, "
            f"but its shape is {weights.shape}; a part such as weights[:, :8, :8] can be drawn"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative, but some are")
    _check_words("tokens", tokens, T_q)
    if keys is None and T_q != T_k:
        raise ValueError(f"keys must be given where T_k={T_k} differs from T_q={T_q}, but it is None")
    keys = tokens if keys is None else keys
    _check_words("keys", keys, T_k)
    queries, keys = [_shown(word) for word in tokens], [_shown(word) for word in keys]
    columns, size = _arrange(heads, queries, keys)
    figure = new_figure(size, layout="compressed")
    panels: list[Axes] = list(
        figure.subplots(math.ceil(heads / columns), columns, sharex=True, sharey=True, squeeze=False).flat
    )
    largest = weights.max() or 1.0  # all 0: any other end of the scale will do
    for head, panel in enumerate(panels[:heads]):
        image = panel.imshow(weights[head], cmap="viridis", vmin=0, vmax=largest, interpolation="nearest")
        panel.set_title(f"head {head}", fontsize=TICK)
        panel.set_xticks(range(T_k), keys, fontsize=TICK, rotation=90, parse_math=False)
        panel.set_yticks(range(T_q), queries, fontsize=TICK, parse_math=False)
        lowest, leftmost = head + columns >= heads, head % columns == 0
        panel.tick_params(bottom=lowest, labelbottom=lowest, left=leftmost, labelleft=leftmost)
    for panel in panels[heads:]:
        panel.remove()
    add_colour_bar(figure, image, panels[:heads], "attention weight")
    figure.supylabel("query (rows are queries)", fontsize=LABEL)
    figure.supxlabel("key (columns are keys)", fontsize=LABEL)
    return figure


def _check_words(name: str, words: Sequence[str], count: int) -> None:
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise TypeError(f"{name} must be a list of str, but it is {describe(words)}")
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(f"{name}[{index}] must be a str, but it is {describe(word)}")
    if len(words) != count:
        raise ValueError(f"{name} must be as many as weights has, {count}, but they are {len(words)}")


def _shown(word: str) -> str:
    """Return a word as it can be drawn: line breaks and the like as Python writes them, and no longer than may be."""
    word = word if word.isprintable() else repr(word)[1:-1]
    return word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"


def _arrange(heads: int, queries: Sequence[str], keys: Sequence[str]) -> tuple[int, tuple[float, float]]:
    """Return the number of columns and the size of the figure for which words are largest on a slide, and apart."""
    beside = BESIDE + LETTER * max(map(len, queries))
    below = BELOW + LETTER * max(map(len, keys))

    def line(columns: int) -> float:
        """How many inches words are apart: as many as a slide has room for, but never less than their own height."""
        across = ((SLIDE[0] - beside) / columns - APART[0]) / len(keys)
        down = ((SLIDE[1] - below) / math.ceil(heads / columns) - APART[1]) / len(queries)
        return max(LINE, min(across, down))

    def size(columns: int) -> tuple[float, float]:
        width = beside + columns * (APART[0] + line(columns) * len(keys))
        return width, below + math.ceil(heads / columns) * (APART[1] + line(columns) * len(queries))

    def shrinks(columns: int) -> float:
        """What the figure is multiplied by until a slide holds it, rounded since sizes that fit are a slide's."""
        return round(min(1, *(slide / side for slide, side in zip(SLIDE, size(columns), strict=True))), 6)

    columns = max(range(1, heads + 1), key=lambda columns: (shrinks(columns), line(columns)))
    return columns, size(columns)


def positional_encoding(max_len: int, d_model: int) -> Figure:
    """Draw what PositionalEncoding adds to the embeddings: a row for each position, a column for each dimension.

    Above the columns stand the wavelengths, 2π · 10000^(2i/d_model) positions for dimensions 2i and 2i+1.

    Parameters
    ----------
    max_len : int
        Number of positions.
    d_model : int
        Number of dimensions.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If a number is not whole, or below 1.
    ImportError
        If matplotlib is missing.

    References
    ----------
    Vaswani et al. 2017, "Attention Is All You Need", section 3.5.

    Examples
    --------
    >>> positional_encoding(max_len=100, d_model=64).axes[0].get_ylabel()
    'position in the sequence'
    """
    table = PositionalEncoding(check_count("d_model", d_model), max_len=check_count("max_len", max_len)).table
    figure = new_figure()
    axes = figure.subplots()
    image = axes.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    say(axes, "Positional encoding", "dimension (even: sine, odd: cosine)", "position in the sequence")
    pairs = np.unique(np.linspace(0, (d_model - 1) // 2, 6).astype(int))
    above = axes.secondary_xaxis("top")
    above.set_xticks(2 * pairs, [f"{2 * np.pi * 10000 ** (2 * pair / d_model):,.0f}" for pair in pairs], fontsize=TICK)
    above.set_xlabel("wavelength in positions", fontsize=LABEL)
    add_colour_bar(figure, image, [axes], "value added to the embedding")
    return figure
