"""What is measured, each in a process of its own; `rtj_bench_trainer.process` runs them."""
