"""Records of prompts, answers, documents and feedback, and their search.

The SQL database is authoritative (``store``); files of any size are stored beside it by their hash
(``blobs``); and an index that can be rebuilt at any time finds texts by words and meaning
(``index``).
"""
