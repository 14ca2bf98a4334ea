"""Who gets how much: allocation, price, ledger, journal, the job's state machine and its driver."""
