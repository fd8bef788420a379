"""What a program on the user's side needs of a cluster: a connection, jobs, results, files. Knows no process of it."""
