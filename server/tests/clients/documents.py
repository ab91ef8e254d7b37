"""What docs/api.md and README.md show of clients that others wrote, as it stands there.

Usage: documents.py ADDRESS FOLDER_OF_GRPCURL
"""

import os
import re
import subprocess
import sys
from pathlib import Path

address, grpcurl = sys.argv[1:]
root = Path(__file__).resolve().parents[3]
environment = {**os.environ, "PATH": f"{grpcurl}:{os.environ['PATH']}"}


def blocks(document, language):
    text = (root / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(*command):
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


shells = [block for block in blocks("docs/api.md", "sh") + blocks("README.md", "") if "grpcurl -plaintext" in block]
assert len(shells) == 2, shells
for shell in shells:
    # The admin port is another one here, and a test of the server's own.
    lines = [line for line in shell.splitlines() if "localhost:9090" not in line]
    said = run("sh", "-ec", "\n".join(lines).replace("localhost:8080", address))
    for part in ["unimodel.v1.RankingService", '"items": [', '"score": ']:
        assert part in said, f"no {part} in {said}"

pythons = [block for block in blocks("docs/api.md", "python") if "tritonclient" in block]
assert len(pythons) == 1, pythons
said = run(sys.executable, "-c", pythons[0].replace("localhost:8080", address))
assert len(said.split()) >= 10, said
print("documents: ok")
