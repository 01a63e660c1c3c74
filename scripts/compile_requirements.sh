#!/usr/bin/env bash
# Write requirements.txt and requirements-dev.txt from pyproject.toml: exact versions, no URLs.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links)
uv pip compile "${options[@]}" pyproject.toml -o requirements.txt
uv pip compile "${options[@]}" pyproject.toml --extra dev --extra server -c requirements.txt -o requirements-dev.txt
