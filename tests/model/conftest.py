"""Lets a broken promise show the values that broke it, though no promise is in a test's file."""

import pytest

pytest.register_assert_rewrite(
    "tests.model.accounts", "tests.model.budgets", "tests.model.promises"
)
