"""Who may do what: tokens and certificates are made and checked here, and nowhere else.

`tokens` are the two long-lived secrets of a cluster and the file that holds them; `scopes` are narrow, expiring tokens
derived from them; `policy` says which kind of caller may use which door; `certificates` are the cluster's own authority
and `joining` the one line that brings a new machine in.
"""
