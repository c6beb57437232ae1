"""Where the ledger is kept: statements and the one writer."""
