"""``python -m rtj_devcluster``."""

from rtj_devcluster.cli import main

main()
