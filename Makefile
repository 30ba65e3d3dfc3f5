.PHONY: format static-checks test-fast test test-distributed recipes benchmark

format:
	ruff check --fix .
	ruff format .

static-checks:
	ruff check .
	ruff format --check .
	mypy

test-fast:
	pytest -m "not slow"

test:
	pytest

test-distributed:
	pytest tests/distributed

recipes:
	pytest tests/test_paper_map.py

benchmark:
	python training/benchmark.py
