# Shown here is what clients.sql.j2 becomes with the settings of the current generation.
