"""Reports: results in, text, tables and pictures out."""
