"""Generate the protocol's Python code, or check it: `make proto` runs this in its own environment.

`generate` writes the modules and stubs beside the `.proto` files; `check` generates them elsewhere
and fails where the committed ones differ; `image` writes a descriptor set for `buf`.
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "proto"
# googleapis-common-protos ships google/rpc/status.proto beside its Python modules.
INCLUDES = ["-I", str(ROOT), "-I", sysconfig.get_path("purelib")]
PLUGINS = [
    f"--plugin={name}={Path(sysconfig.get_path('scripts')) / name}"
    for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
]


def protos() -> list[Path]:
    """Return the protocol's files, relative to its folder."""
    return sorted(path.relative_to(ROOT) for path in ROOT.glob("carousel/**/*.proto"))


def protoc(*arguments: str) -> None:
    """Run the protocol compiler that grpcio-tools brings."""
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *INCLUDES, *PLUGINS, *arguments],
        check=True,
        cwd=ROOT,
    )


def generate(out: Path) -> None:
    """Write modules and typed stubs below `out`; gRPC ones only where there is a service."""
    files = [str(path) for path in protos()]
    services = [name for name in files if "\nservice " in (ROOT / name).read_text()]
    protoc(f"--python_out={out}", f"--mypy_out=quiet:{out}", *files)
    protoc(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services)


def check() -> int:
    """Return 1, and say which, where the committed code is not what the `.proto` files make."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        made = {path.relative_to(folder) for path in Path(folder).rglob("*_pb2*")}
        kept = {path.relative_to(ROOT) for path in ROOT.rglob("carousel/**/*_pb2*.py*")}
        kept = {path for path in kept if path.suffix in {".py", ".pyi"}}
        stale = sorted(
            path
            for path in made | kept
            if path not in made
            or path not in kept
            or not filecmp.cmp(Path(folder) / path, ROOT / path, shallow=False)
        )
    for path in stale:
        print(f"stale: proto/{path} (run: make proto)")
    return 1 if stale else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["generate", "check", "image"])
    parser.add_argument("out", nargs="?", help="where to write the image")
    arguments = parser.parse_args()
    if arguments.action == "generate":
        generate(ROOT)
    elif arguments.action == "image":
        protoc(
            f"--descriptor_set_out={Path(arguments.out).resolve()}",
            "--include_imports",
            "--include_source_info",
            *map(str, protos()),
        )
    return check() if arguments.action == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
