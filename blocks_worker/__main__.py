"""`python -m blocks_worker` is `blocks-run`."""

from blocks_worker.cli.begin import main

if __name__ == "__main__":
    main()
