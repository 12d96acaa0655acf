"""A module of the user's that holds something that can change."""

SEEN = []
FACTOR = 0.02


def scale():
    return FACTOR
