"""The exercises, a file each, in order of difficulty."""

from importlib import import_module

from npformer.exercises.task import Task

TASKS: dict[str, Task] = {}
for name in (
    "subsequent_mask",
    "clones",
    "attention",
    "multi_head_forward",
    "linear",
    "softmax",
    "gelu",
    "dropout",
    "embeddings",
    "layer_norm",
    "annotated_layer_norm",
    "attention_core",
    "fully_masked",
    "multi_head",
    "feed_forward",
    "pre_norm",
    "post_norm",
    "encoder_layer",
    "shared_encoder",
    "cross_entropy",
    "blockwise_attention",
    "gradient_checker",
):
    TASKS[name] = import_module(f"npformer.exercises.tasks.{name}").TASK
