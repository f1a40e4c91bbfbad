"""The command line: one file a verb, each holding one function of the verb's name, which is also its Python call."""
