"""The commands of the command line, one a file; `apportion.cli` lists them. Importing one imports nothing heavy."""
