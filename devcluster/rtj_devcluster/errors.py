"""What can go wrong, each with one sentence that says what to do."""


class DevClusterError(Exception):
    """The dev cluster cannot do what was asked; the message says why and what mends it."""


class MissingRequirementError(DevClusterError):
    """This machine lacks a right or a feature; nothing was changed."""


class CommandFailedError(DevClusterError):
    """A program that the dev cluster ran failed; the message ends with what it printed last."""
