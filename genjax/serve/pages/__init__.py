"""Web pages on a store of records: ``routes.make_pages`` makes their routes."""
