"""The contract that operator, trainer and tools share."""
