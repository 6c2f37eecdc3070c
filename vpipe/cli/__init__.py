"""The command line: one short file per command, which parses, calls the library and prints."""
