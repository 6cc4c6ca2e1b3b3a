"""What people look at in a browser: one file per page, with its template beside it."""
