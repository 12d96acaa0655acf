"""The trainer: owns the training loop of one attempt."""
