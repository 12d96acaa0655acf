"""What can go wrong, each with one sentence that says what to do."""


class DevClusterError(Exception):
    """The dev cluster cannot do what was asked; the message says why and what mends it."""


class MissingRequirementError(DevClusterError):
    """This machine lacks a right or a feature; no cluster was touched."""


class NoClusterError(DevClusterError):
    """Nothing of this name is there."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no cluster {name!r}: start it with devcluster --name {name} up")


class CommandFailedError(DevClusterError):
    """A program that the dev cluster ran failed; the message ends with what it printed last."""
