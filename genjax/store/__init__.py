"""Records of what people ask, what models answer and what people think of it, and their search.

SQL holds the truth (``store``), files of any size lie next to it by their hash (``blobs``), and
an index that can be rebuilt at any time finds texts by words and meaning (``index``).
"""
