"""What is said about a training run: at its beginning, and at its end."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from npformer.component import flatten
from npformer.training.progress import epoch_means, format_seconds
from npformer.training.run import Run


def describe_run(run: Run) -> str:
    """Return a few lines on what is trained with what."""
    settings, data = run.settings, run.data
    N, height, width = data.train_images.shape
    judged = "held out" if run.source is not None and run.source.hold_out else "to test"
    order = "pre" if settings.norm_first else "post"
    moves = f", shifted by up to {settings.shift} px" * (settings.shift > 0) + ", flipped" * settings.flip
    threads = f", in {settings.threads} threads" * (settings.threads > 1)
    lines = [
        f"Data:     {data.name}, {N:,} images of {height} x {width} to train on, {len(data.test_labels):,} {judged}, "
        f"{len(data.class_names)} classes",
        f"Model:    {run.model!r}, {settings.dtype}",
        f"          patch size {settings.patch_size}, {settings.num_layers} x {order}-norm layer, d_model "
        f"{settings.d_model}, {settings.num_heads} heads, d_ff {settings.d_ff}, {settings.activation}",
        f"Training: {settings.epochs} epochs of {run.steps_per_epoch} steps of {settings.batch_size} images"
        f"{moves}{threads}",
        f"          AdamW, learning rate {settings.learning_rate:g}, warm-up {settings.warmup:g}, "
        f"weight decay {settings.weight_decay:g}, clipped to {settings.max_norm:g}",
        f"          dropout {settings.dropout:g}, label smoothing {settings.label_smoothing:g}, seed {settings.seed}",
    ]
    if run.history:
        lines.append(f"Resumed:  {len(run.history):,} of {run.total_steps:,} steps are done")
    return "\n".join(lines)


def outcome(run: Run, resumed_at: int, seconds: float, score: float) -> dict[str, Any]:
    """Return all that is known at the end of a run, as JSON has it."""
    data, steps = run.data, len(run.history)
    epochs = [epoch_means(run, index) for index in range(-(-steps // run.steps_per_epoch))]
    return {
        "data": {
            "name": data.name,
            "train_images": len(data.train_labels),
            "scored_images": len(data.test_labels),
            "held_out": run.source is not None and run.source.hold_out > 0,
        },
        "settings": asdict(run.settings),
        "parameters": sum(array.size for array in flatten(run.model.parameters()).values()),
        "steps": steps,
        "resumed_at": resumed_at,
        "epochs": [{"loss": loss, "accuracy": accuracy} for loss, accuracy in epochs],
        "score": score,
        "correct": round(score * len(data.test_labels)),
        "seconds": seconds,
    }


def format_outcome(result: dict[str, Any]) -> str:
    """Return the line that a run ends with.

    Examples
    --------
    >>> data = {"held_out": False, "scored_images": 449}
    >>> print(format_outcome({"data": data, "score": 0.98663697, "correct": 443, "seconds": 9.2}))
    Test accuracy: 0.9866 (443 of 449), in 9 s
    """
    data = result["data"]
    what = "Held-out" if data["held_out"] else "Test"
    correct, count = result["correct"], data["scored_images"]
    return f"{what} accuracy: {result['score']:.4f} ({correct:,} of {count:,}), in {format_seconds(result['seconds'])}"
