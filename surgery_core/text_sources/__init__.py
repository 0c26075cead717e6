"""Where sets of texts come from: files, folders, archives, tables, and data sets of the `datasets` library."""
