"""The one exception that ends a build with a sentence and no traceback."""


class DemoError(Exception):
    """Says what was expected, what was received, and what to do."""

    exit_code = 1


class EngineCrashError(DemoError):
    """The synthesiser died on a text: another text may do."""


class DemoParamsError(DemoError):
    """A knob in params.yaml is wrong."""

    exit_code = 2


class DemoLockedError(DemoError):
    """Another build is writing to the same folder."""

    exit_code = 75
