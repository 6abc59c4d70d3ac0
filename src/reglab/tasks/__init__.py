"""Tasks: what the outputs of a model are judged against, one task a file.

They are found by their names, which users write (``data.task=poisson``), and import torch only.
"""

from reglab.tasks.answers import Answers
from reglab.tasks.base import Scale, Task
from reglab.tasks.find import task_named, task_names

__all__ = ["Answers", "Scale", "Task", "task_named", "task_names"]
