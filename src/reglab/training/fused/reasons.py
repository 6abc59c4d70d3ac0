"""What an error of ``vmap`` means, in a few words."""

_KNOWN = {  # part of torch's message on a model that cannot be vmapped: what it means
    "random operation": "it draws random numbers of its own, as an LSTM's dropout does",
    "data-dependent control flow": "it branches on its data",
    "aten::_local_scalar_dense": "it branches on its data",
    ".item()": "it branches on its data",
}


def reason(error: BaseException) -> str:
    """Return a short reason from an error of ``vmap``."""
    text = str(error).strip() or type(error).__name__
    for part, meaning in _KNOWN.items():
        if part in text:
            return meaning
    line = text.splitlines()[0]
    return line if len(line) <= 160 else f"{line[:157]}..."
