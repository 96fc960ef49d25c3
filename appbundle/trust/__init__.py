"""Who may sign what: keys, signatures, verification; bytes in, values or errors out."""
