# `just` lists the targets; CONTRIBUTING.md explains them.

default:
    @just --list

# ruff, mypy and the import contract
check:
    ruff check .
    ruff format --check .
    mypy
    lint-imports

# the unit tests: no servers, no TensorFlow
test-fast:
    pytest tests/unit

# all tests
test *arguments:
    pytest {{arguments}}

# write the generated reference, then build the site strictly into site/
docs:
    python -m scripts.make_reference
    mkdocs build --strict

# tracking server, PostgreSQL and S3 store on this machine: start, status or stop
stack command="start":
    python -m scripts.stack {{command}}
