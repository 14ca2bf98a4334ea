"""What runs on the accelerators: engines, scorers, placement, the pool of Ray actors."""
