"""The ground that every room stands on: errors, records, files, devices, colours."""
