"""The ledger: keeps tasks, gives leases, records outcomes."""
