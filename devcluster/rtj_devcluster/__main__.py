"""`devcluster`, and `python -m rtj_devcluster`."""

import sys


def main() -> None:
    """Run the command line; say what it needs, since each installation has the script."""
    try:
        from rtj_devcluster import cli
    except ModuleNotFoundError as error:
        sys.exit(f"devcluster: {error}: pip install 'resumable-training-job[devcluster]'")
    cli.main()


if __name__ == "__main__":
    main()
