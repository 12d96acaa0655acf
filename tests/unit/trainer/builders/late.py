"""A module of the user's that only a callback imports."""

SEEN = []
