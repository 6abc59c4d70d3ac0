"""Restore what a job changes of its process: signal handlers, torch's settings."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reglab.core import signals

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # which Lightning sets for deterministic algorithms


@contextmanager
def process_restored() -> Iterator[None]:
    """Restore handlers of signals, and torch's default dtype, number of threads and modes,
    afterwards.

    Lightning replaces the handler of SIGINT once Ctrl-C was pressed, and its ``Trainer`` sets
    deterministic algorithms and cuDNN's benchmark for the whole process. A model may change any of
    them: the next job in the process trains as it would alone.
    """
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in signals.HANDLED} if main else {}
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    gradients, anomalies = torch.is_grad_enabled(), torch.is_anomaly_enabled()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(_WORKSPACE)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:  # None: not set by Python
                signal.signal(number, handler)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        torch.autograd.set_detect_anomaly(anomalies)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is not None:
            os.environ[_WORKSPACE] = workspace
        else:
            os.environ.pop(_WORKSPACE, None)
