"""One command, with a word for what it is to do."""
