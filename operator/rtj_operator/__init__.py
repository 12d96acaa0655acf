"""The operator: keeps every ResumableTrainingJob running until it is done."""
