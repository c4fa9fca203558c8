"""The `trimtab` command: a thin skin over flows and servers, one file a group of commands."""
