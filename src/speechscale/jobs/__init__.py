"""One module per verb: what a command or a stage of a study does, with workers, from records to records."""
