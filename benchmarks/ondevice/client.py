"""`carousel`, as a module: where the project is run from its folders, there is no such script."""

from __future__ import annotations

from carousel_client.cli import main

if __name__ == "__main__":
    main()
