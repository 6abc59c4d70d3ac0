"""``torch.compile`` of a user's model, in training mode only; state dict and draws unchanged."""

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reglab.core.errors import UserError, nearest
from reglab.regularizers import Keys
from reglab.rng import counter_rng

Setting = bool | str | Mapping[str, Any] | None

_log = logging.getLogger(__name__)


def compile_options(setting: Setting) -> dict[str, Any] | None:
    """Return the arguments of ``torch.compile`` for ``trainer.compile``; None where it is off.

    Unless it says otherwise, each batch size is compiled for itself, of which training has two:
    what is computed then does not depend on which came first, and a resumed run gets the same bits.

    Args:
        setting: true, the name of a mode, or a mapping of ``mode``, ``backend``, ``dynamic``,
            ``fullgraph`` and ``options``.

    Raises:
        UserError: For anything else, with what is valid.
    """
    if setting is None or setting is False:
        return None
    if isinstance(setting, str):
        setting = {"mode": setting}
    elif setting is True:
        setting = {}
    if not isinstance(setting, Mapping):
        raise UserError(
            f"trainer.compile must be true, false, a mode ({', '.join(_modes())}) or a mapping of torch.compile's "
            f"options, got {setting!r}"
        )
    options = {"dynamic": False, **_checked(setting)}
    try:
        with warnings.catch_warnings():
            # Inductor, imported here, warns of torch's own older parts.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.compile(lambda: None, **options)  # compiles nothing yet
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:  # it raises each of them
        raise UserError(f"trainer.compile: {_reason(error)}") from error
    return options


def compile_inner(model: nn.Module, setting: Setting, keys: Keys) -> Callable[[], None]:
    """Compile ``model`` in place, in training mode only, and return the undo.

    Names, state dict and hooks stay as they are. In evaluation mode, or without gradients, the
    model runs as it was: what is measured does not depend on how it was trained, other batch sizes
    compile nothing, and it can be differentiated twice. What cannot be compiled, as where there is
    no C++ compiler, runs as it was too, after one line that says so: the result is the same, only
    later.

    Args:
        keys: Those that the model's dropout draws by.

    Raises:
        UserError: For an invalid ``setting``.
    """
    options = compile_options(setting)
    if options is None:
        return lambda: None
    eager: Callable[..., Any] = model._call_impl  # the call with its hooks, which nn.Module.compile compiles as well
    compiled = _compiled(eager, options, keys)

    def dispatch(*inputs: Any, **named: Any) -> Any:
        if not (model.training and torch.is_grad_enabled()):
            return eager(*inputs, **named)
        try:
            return compiled(keys.index, *inputs, **named)
        except torch._dynamo.exc.Unsupported as error:  # only with fullgraph; otherwise that part runs as it was
            raise UserError(
                f"trainer.compile.fullgraph=true, but the model is not one graph ({_reason(error)}); leave fullgraph "
                "out, and the parts that can be are compiled"
            ) from error

    fallback = _EagerFallback()
    model._compiled_call_impl = dispatch

    def undo() -> None:
        model._compiled_call_impl = None
        fallback.end()

    return undo


def _compiled(eager: Callable[..., Any], options: Mapping[str, Any], keys: Keys) -> Callable[..., Any]:
    """Return ``eager``, compiled, which takes the numbers of the examples before its own
    arguments.
    """
    # Its checksum is not Python, so it cannot be traced.
    torch.compiler.assume_constant_result(counter_rng.name_number)  # type: ignore[no-untyped-call]  # torch leaves it so

    # Not nn.Module.compile: where the class is torch's own, as nn.Sequential, torch 2.13 then
    # compiles nothing at all.
    def call(index: Tensor | None, *inputs: Any, **named: Any) -> Any:
        keys.index = index  # an argument: what is reached through a module is taken for fixed in its address
        return eager(*inputs, **named)

    call.__code__ = call.__code__.replace()  # what is compiled belongs to the code, which models would share
    return torch.compile(call, **options)


def _checked(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``setting``.

    Raises UserError for a name or value that torch.compile does not know, or should not get.
    """
    options = {str(name): value for name, value in setting.items()}
    valid = {"mode": _modes(), "backend": _backends(), "dynamic": None, "fullgraph": None, "options": None}
    for name, value in options.items():
        if name not in valid:
            raise UserError(f"trainer.compile.{name}: torch.compile has no such option; {nearest(name, valid)}")
        names = valid[name]
        if names is not None and value not in names:
            raise UserError(f"trainer.compile: {value!r} is no {name} of torch.compile; {nearest(str(value), names)}")
        if name in ("dynamic", "fullgraph") and not isinstance(value, bool):
            raise UserError(f"trainer.compile.{name} must be true or false, got {value!r}")
    if "options" in options:
        options["options"] = _checked_inner(options["options"])
    return options


def _checked_inner(options: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise UserError(f"trainer.compile.options must be a mapping of Inductor's options, got {options!r}")
    for name, value in options.items():
        # A text may be a compiler to run: a config would then execute what it likes.
        if not isinstance(value, (bool, int, float)):
            raise UserError(f"trainer.compile.options.{name} must be true, false or a number, got {value!r}")
    return dict(options)


def _modes() -> list[str]:
    from torch import _inductor  # late: it takes a second

    return list(_inductor.list_mode_options())


def _backends() -> list[str]:
    from torch import _dynamo  # late: it takes a second

    return list(_dynamo.list_backends(exclude_tags=None))


class _EagerFallback(logging.Filter):
    """Until ``end``, what cannot be compiled runs eager, with one warning instead of a traceback
    each time.
    """

    def __init__(self) -> None:
        super().__init__()
        from torch import _dynamo  # late: they take a second
        from torch._functorch import config

        self._warned = False
        self._logger = logging.getLogger("torch._dynamo.convert_frame")
        self._logger.addFilter(self)
        self._settings = [
            (_dynamo.config, "suppress_errors", True),
            # Backward is compiled with forward: later, its failure could not be forgiven.
            (config, "force_non_lazy_backward_lowering", True),
            # Or what was compiled for a model without dropout's hooks is taken for one with them.
            (_dynamo.config, "skip_nnmodule_hook_guards", False),
        ]
        self._before = [getattr(where, name) for where, name, _ in self._settings]
        for where, name, value in self._settings:
            setattr(where, name, value)

    def end(self) -> None:
        self._logger.removeFilter(self)
        for (where, name, _), value in zip(self._settings, self._before, strict=True):
            setattr(where, name, value)

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno != logging.WARNING or error is None:
            return True
        if not self._warned:
            _log.warning("compiling failed (%s); the affected parts run uncompiled", _reason(error))
        self._warned = True
        return False


def _reason(error: BaseException) -> str:
    inner = getattr(error, "inner_exception", error)  # dynamo's own wraps the backend's
    return (str(inner).strip() or type(inner).__name__).splitlines()[0][:200]
