"""The options of the command `npformer train`: one for each of its settings, and those of its files."""

from __future__ import annotations

import argparse

MODEL: dict[str, tuple[type, str, str]] = {
    "patch_size": (int, "N", "height and width of a token, in pixels"),
    "num_layers": (int, "N", "layers of the encoder"),
    "d_model": (int, "N", "size of a token's vector, a multiple of the heads"),
    "num_heads": (int, "N", "heads of the attention"),
    "d_ff": (int, "N", "size inside the feed-forward network"),
    "dropout": (float, "P", "rate of every dropout"),
}
TRAINING: dict[str, tuple[type, str, str]] = {
    "epochs": (int, "N", "how often all images are seen"),
    "batch_size": (int, "N", "images of a step"),
    "learning_rate": (float, "X", "the largest, between warm-up and cosine"),
    "warmup": (float, "X", "share of the steps until then"),
    "weight_decay": (float, "X", "of AdamW"),
    "label_smoothing": (float, "X", "of the cross-entropy"),
    "max_norm": (float, "X", "gradients are clipped to this global norm"),
    "shift": (int, "N", "images are moved by up to N pixels, at random"),
    "threads": (int, "N", "parts of a batch that are computed at the same time"),
    "seed": (int, "N", "decides the split, and all that is drawn"),
}


class HelpFormatter(argparse.HelpFormatter):
    """Adds to each setting what it is without the option; looks that up only where help is wanted."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        from npformer.training.source import SETTINGS

        values = {name: getattr(settings, action.dest, None) for name, settings in SETTINGS.items()}
        if action.help is None or None in values.values():
            return action.help
        shown = {name: str(value).replace("True", "yes").replace("False", "no") for name, value in values.items()}
        if len(set(shown.values())) == 1:
            return f"{action.help} (default: {shown.popitem()[1]})"
        return f"{action.help} ({', '.join(f'{name}: {value}' for name, value in shown.items())})"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options to the parser of the command."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        nargs="+",
        metavar=("digits|fashion-mnist", "DIR"),
        help="what to learn; DIR holds the four files of Fashion-MNIST (default: digits; DIR as in Debian)",
    )
    data.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="score N of the training images in place of the test images, and do not train on them",
    )
    model = parser.add_argument_group("model")
    _add_numbers(model, MODEL)
    model.add_argument(
        "--activation", choices=["relu", "gelu", "gelu_tanh", "silu"], help="of the feed-forward network"
    )
    _add_flag(model, "norm_first", "normalise before each sublayer, not after")
    model.add_argument("--dtype", choices=["float32", "float64"], help="to compute in")
    training = parser.add_argument_group("training")
    _add_numbers(training, TRAINING)
    _add_flag(training, "flip", "half of the images are mirrored, at random")
    _add_files(parser.add_argument_group("files and output"))


def option(name: str) -> str:
    """Return what the option of a setting is called.

    Examples
    --------
    >>> option("batch_size")
    '--batch-size'
    """
    return f"--{name.replace('_', '-')}"


def _add_numbers(group: argparse._ArgumentGroup, numbers: dict[str, tuple[type, str, str]]) -> None:
    for name, (kind, metavar, about) in numbers.items():
        group.add_argument(option(name), type=kind, metavar=metavar, help=about)


def _add_flag(group: argparse._ArgumentGroup, name: str, about: str) -> None:
    group.add_argument(option(name), action=argparse.BooleanOptionalAction, help=about)


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint", metavar="FILE.npz", help="save the run now and then, to go on from after a stop")
    group.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="save after every N steps (default: by the clock, so that it takes at most 1 %% of the time)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint, with its data and settings, to the same bits as a run that was never stopped",
    )
    group.add_argument("--plot", metavar="FILE", help="draw learning curves as .png or .svg (needs matplotlib)")
    group.add_argument("--json", action="store_true", help="print JSON alone")
