"""How files of a repository are reached: web servers and directories, one or several."""
