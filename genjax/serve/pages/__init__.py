"""Web pages show a store of records: ``routes.make_pages`` makes their routes."""
