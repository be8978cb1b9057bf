"""``python -m batch_assets``: the command line."""

from batch_assets.cli import main

main()
