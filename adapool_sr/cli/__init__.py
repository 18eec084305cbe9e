"""The command line: one module a command, each loaded only when it is asked for.

A command module has ``NAME``, ``HELP`` (one line), ``EXAMPLE`` (one or more command lines),
``add_arguments(parser)`` and ``run(args) -> int`` (the exit status). It imports nothing heavy
at its top: ``--help`` and usage errors must not load torch.
"""

__all__: list[str] = []
