"""A rotation to be killed: it prints a line when it begins."""

import sys

from genjax.store.opening import open_store
from genjax.store.privacy.rotation import rotate

if __name__ == "__main__":
    with open_store(sys.argv[1], user="turner") as store:
        print("begins", flush=True)
        rotate(store)
        print("ends", flush=True)
