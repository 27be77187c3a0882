"""The committed protobuf stubs are what the .proto files say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROTO = ROOT / "proto"


def test_the_stubs_are_those_of_the_proto_files(tmp_path: Path) -> None:
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("adapterd/v1/*.proto"))
    kinds = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    generated = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", *kinds, *sources],
        cwd=PROTO,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert generated.returncode == 0, generated.stderr
    fresh = {path.name: path.read_text("utf-8") for path in (tmp_path / "adapterd" / "v1").iterdir()}
    committed = {path.name: path.read_text("utf-8") for path in (PROTO / "adapterd" / "v1").glob("*_pb2*.py*")}
    assert sorted(fresh) == sorted(committed), "run `make stubs`"
    assert [name for name in fresh if fresh[name] != committed[name]] == [], "run `make stubs`"
