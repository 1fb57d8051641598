"""Which interpreter of the process this is: the compiled code works in the main one only.

NumPy and the compiled modules keep one state per process, and batcher threads take the lock of the main
interpreter. In another interpreter the import would fail somewhere inside NumPy, or succeed and crash
later; so it is refused first, with the way out.
"""

from __future__ import annotations

__all__ = ["refuse_subinterpreters"]


def refuse_subinterpreters() -> None:
    """Raise ImportError in a subinterpreter.

    Raises
    ------
    ImportError
        This is not the main interpreter.
    """
    try:
        import _interpreters as interpreters  # type: ignore[import-not-found]
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters  # type: ignore[import-not-found]  # until 3.12
        except ImportError:
            return  # this Python has none
    if interpreters.get_current() != interpreters.get_main():
        raise ImportError(
            "infersdk works in the main interpreter of a process only, and this is a subinterpreter. "
            "Under mod_wsgi set `WSGIApplicationGroup %{GLOBAL}`; otherwise import infersdk in the "
            "main interpreter, and use threads or processes in place of subinterpreters."
        )
