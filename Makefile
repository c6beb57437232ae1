# Thin aliases of scripts/, for fingers that type make.
.PHONY: install test lint fmt build bench
install: ; ./scripts/check >/dev/null
test:    ; ./scripts/test
lint:    ; ./scripts/check
fmt:     ; ./scripts/fmt
build:   ; .venv/bin/python -m pip wheel --no-deps -w dist .
bench:   ; ./scripts/bench
