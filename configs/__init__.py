"""The config schema, and the YAML files that ship with the package."""
