"""How hard a prompt is: beliefs over pass@1, priors, evidence, response curves."""
