"""The exercises, a file each, in order of difficulty."""

from importlib import import_module

from npformer.exercises.task import Task

TASKS: dict[str, Task] = {}
for name in (
    "subsequent_mask",
    "gelu",
    "dropout",
    "embeddings",
    "layer_norm",
    "annotated_layer_norm",
    "attention_core",
    "fully_masked",
):
    TASKS[name] = import_module(f"npformer.exercises.tasks.{name}").TASK
