"""Measures what the project promises about speed; `docs/performance.md` explains each figure."""
